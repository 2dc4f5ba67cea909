"""Clips of any length in windows of bounded length.

Windows have 120 steps (61.4 s) and hop 60 steps. The outer 30 steps of a window are dropped where
another window covers them; what is left joins without gap or overlap.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avser.types import STEP_S, STEP_SAMPLES, TimelineEntry

WINDOW_STEPS = 120
HOP_STEPS = WINDOW_STEPS // 2
MARGIN_STEPS = WINDOW_STEPS // 4

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Piece:
    """Steps of a clip: ``probabilities [K]``, ``steps [T, K]``, ``mask [T]``, head index."""

    probabilities: Tensor
    steps: Tensor
    mask: Tensor
    used: int


def windows(
    run: Callable[[Sequence[Samples]], list[Piece]], blocks: Iterable[Samples]
) -> Iterator[Piece]:
    """Answer a clip that comes in blocks.

    Args:
        run: answers waves of at most a window each.
        blocks: ``[n]`` samples each, following one another.
    """
    held = np.zeros(0, np.float32)
    first = True
    window, hop = WINDOW_STEPS * STEP_SAMPLES, HOP_STEPS * STEP_SAMPLES
    for block in blocks:
        for start in range(0, len(block), window):  # a block may be a whole array
            held = np.concatenate([held, block[start : start + window]])
            while len(held) > window:
                (piece,) = run([held[:window]])
                skip = 0 if first else MARGIN_STEPS
                yield _cut(piece, skip, WINDOW_STEPS - MARGIN_STEPS)
                held, first = held[hop:], False
    (piece,) = run([held])
    yield piece if first else _cut(piece, MARGIN_STEPS, len(piece.mask))


def _cut(piece: Piece, start: int, stop: int) -> Piece:
    return Piece(piece.probabilities, piece.steps[start:stop], piece.mask[start:stop], piece.used)


def named(names: Sequence[str], probabilities: Tensor) -> dict[str, float]:
    """Turn ``probabilities [K]`` into shares by name."""
    return {n: round(float(p), 6) for n, p in zip(names, probabilities, strict=True)}


def timeline(
    names: Sequence[str], steps: Tensor, mask: Tensor, duration_s: float
) -> Iterator[TimelineEntry]:
    """Turn ``steps [T, K]`` and ``mask [T]`` into entries up to the end of the clip."""
    for index, (probabilities, valid) in enumerate(zip(steps, mask.tolist(), strict=True)):
        start = index * STEP_S
        if start >= duration_s:
            return
        yield TimelineEntry(
            start_s=start,
            end_s=min(start + STEP_S, duration_s),
            label=names[int(probabilities.argmax())] if valid else None,
            probabilities=named(names, probabilities) if valid else None,
        )
