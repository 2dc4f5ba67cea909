"""Windows of bounded length over clips of any length, and timelines of their steps.

Windows have 120 steps (61.4 s) and hop 60 steps. The outer 30 steps of a window are dropped where
another window covers them; what is left joins without gap or overlap.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from avser.types import STEP_S, TimelineEntry

WINDOW_STEPS = 120
HOP_STEPS = WINDOW_STEPS // 2
MARGIN_STEPS = WINDOW_STEPS // 4


@dataclass(frozen=True)
class Window:
    """Steps ``start`` to ``stop`` of a clip, of which ``first`` to ``last`` are kept."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class WindowOutput:
    """Output for a window: ``probabilities [K]``, ``steps [T, K]``, ``mask [T]``, head index.

    ``video`` is that of the video head alone, where the net has one.
    """

    probabilities: Tensor
    steps: Tensor
    mask: Tensor
    used: int
    video: "WindowOutput | None" = None

    def kept(self, window: Window) -> "WindowOutput":
        """The same without the steps that another window covers."""
        keep = slice(window.first - window.start, window.last - window.start)
        video = None if self.video is None else self.video.kept(window)
        return replace(self, steps=self.steps[keep], mask=self.mask[keep], video=video)


def windows_of(steps: int) -> Iterator[Window]:
    """Cut a clip of so many steps, at least 1, into windows.

    >>> [(w.start, w.stop, w.first, w.last) for w in windows_of(150)]
    [(0, 120, 0, 90), (60, 150, 90, 150)]
    """
    start = 0
    while steps - start > WINDOW_STEPS:
        stop = start + WINDOW_STEPS
        yield Window(start, stop, start + MARGIN_STEPS if start else 0, stop - MARGIN_STEPS)
        start += HOP_STEPS
    yield Window(start, steps, start + MARGIN_STEPS if start else 0, steps)


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
