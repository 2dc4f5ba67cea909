"""Clips of any length in windows of bounded length.

Windows have 120 steps (61.4 s) and hop 60 steps. The outer 30 steps of a window are dropped where
another window covers them; what is left joins without gap or overlap.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from avser.types import STEP_S, TimelineEntry

WINDOW_STEPS = 120
HOP_STEPS = WINDOW_STEPS // 2
MARGIN_STEPS = WINDOW_STEPS // 4


@dataclass(frozen=True)
class WindowSpan:
    """Steps of a clip: ``probabilities [K]``, ``steps [T, K]``, ``mask [T]``, head index."""

    probabilities: Tensor
    steps: Tensor
    mask: Tensor
    used: int


def windows(run: Callable[[int, int], WindowSpan], steps: int) -> Iterator[WindowSpan]:
    """Answer a clip window by window.

    Args:
        run: answers so many steps from a start.
        steps: of the clip, at least 1.
    """
    start = 0
    while steps - start > WINDOW_STEPS:
        skip = MARGIN_STEPS if start else 0
        yield _cut(run(start, WINDOW_STEPS), skip, WINDOW_STEPS - MARGIN_STEPS)
        start += HOP_STEPS
    piece = run(start, steps - start)
    yield _cut(piece, MARGIN_STEPS, steps - start) if start else piece


def _cut(piece: WindowSpan, start: int, stop: int) -> WindowSpan:
    return WindowSpan(
        piece.probabilities, piece.steps[start:stop], piece.mask[start:stop], piece.used
    )


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
