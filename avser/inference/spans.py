"""Spans of equal labels in a timeline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from avser.types import Prediction, TimelineEntry

JOIN_S = 1e-6  # neighbours that lie closer than this touch


@dataclass(frozen=True)
class Span:
    """A stretch of one label; None is a stretch without a label."""

    start_s: float
    end_s: float
    label: str | None


def merged(timeline: Sequence[TimelineEntry]) -> Iterator[Span]:
    """Join entries that touch and have the same label."""
    last: Span | None = None
    for entry in timeline:
        if last is not None:
            if entry.label == last.label and entry.start_s <= last.end_s + JOIN_S:
                last = Span(last.start_s, entry.end_s, last.label)
                continue
            yield last
        last = Span(entry.start_s, entry.end_s, entry.label)
    if last is not None:
        yield last


def tiles(prediction: Prediction) -> Iterator[Span]:
    """Cover the clip from 0 to its end without a hole, as a Praat tier must."""
    at_s = 0.0
    for span in merged(prediction.timeline):
        if span.start_s > at_s + JOIN_S:
            yield Span(at_s, span.start_s, None)
        yield span
        at_s = span.end_s
    if at_s < prediction.duration_s - JOIN_S or at_s == 0:
        # Praat refuses an interval without length, so that an empty clip lasts a millisecond
        yield Span(at_s, max(prediction.duration_s, 0.001), None)
