"""A prediction's timeline as a file: tables, subtitles and Praat.

| format | one entry is | equal neighbours | nothing to judge |
|---|---|---|---|
| csv | a step: start, end, label, one probability a column | apart | empty cells |
| json | the whole prediction, as `Prediction.to_dict` gives it | apart | null |
| vtt, srt | a subtitle | merged | ``(silence)`` |
| TextGrid | an interval of the tier "emotion" (long text format) | merged | empty text |
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from avser.errors import ConfigError, unknown
from avser.files import atomic_write
from avser.types import Prediction

SILENCE = "(silence)"
_JOIN_S = 1e-6  # neighbours that lie closer than this touch


@dataclass(frozen=True)
class _Span:
    start_s: float
    end_s: float
    label: str | None


def write_timeline(prediction: Prediction, path: str | Path, *, format: str | None = None) -> None:
    """Write the timeline of a prediction; an old file is replaced in one step.

    Args:
        prediction: what a model answered for one clip.
        path: file to write; missing folders are made.
        format: csv, json, vtt, srt or TextGrid; None goes by the suffix of `path`.

    Raises:
        ConfigError: there is no such format.
    """
    wanted = Path(path).suffix.removeprefix(".") if format is None else format
    writer = next((w for name, w in _WRITERS.items() if name.lower() == wanted.lower()), None)
    if writer is None:
        raise ConfigError(unknown("timeline format", wanted, _WRITERS))
    with atomic_write(path) as file:
        file.write(writer(prediction))


def _csv(prediction: Prediction) -> str:
    emotions = next((list(e.probabilities) for e in prediction.timeline if e.probabilities), [])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["start_s", "end_s", "label", *emotions])
    for entry in prediction.timeline:
        found = entry.probabilities or {}
        cells = [f"{found[name]:.4f}" if name in found else "" for name in emotions]
        table.writerow([f"{entry.start_s:.3f}", f"{entry.end_s:.3f}", entry.label or "", *cells])
    return text.getvalue()


def _json(prediction: Prediction) -> str:
    return json.dumps(prediction.to_dict(), indent=2, ensure_ascii=False) + "\n"


def _vtt(prediction: Prediction) -> str:
    cues = [
        f"{_clock(span.start_s)} --> {_clock(span.end_s)}\n"
        f"{escape(span.label or SILENCE, quote=False)}\n"
        for span in _merged(prediction)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _srt(prediction: Prediction) -> str:
    cues = [
        f"{number}\n{_clock(span.start_s, ',')} --> {_clock(span.end_s, ',')}\n"
        f"{span.label or SILENCE}\n"
        for number, span in enumerate(_merged(prediction), 1)
    ]
    return "\n".join(cues)


def _text_grid(prediction: Prediction) -> str:
    spans = list(_tiles(prediction))
    end = f"{spans[-1].end_s:.6f}"
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0"]
    lines += [f"xmax = {end}", "tiers? <exists>", "size = 1", "item []:", "    item [1]:"]
    lines += ['        class = "IntervalTier"', '        name = "emotion"', "        xmin = 0"]
    lines += [f"        xmax = {end}", f"        intervals: size = {len(spans)}"]
    for number, span in enumerate(spans, 1):
        text = (span.label or "").replace('"', '""')  # Praat's way to write a quote
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {span.start_s:.6f}",
            f"            xmax = {span.end_s:.6f}",
            f'            text = "{text}"',
        ]
    return "\n".join(lines) + "\n"


def _merged(prediction: Prediction) -> Iterator[_Span]:
    """Join entries that touch and have the same label."""
    last: _Span | None = None
    for entry in prediction.timeline:
        if last is not None:
            if entry.label == last.label and entry.start_s <= last.end_s + _JOIN_S:
                last = _Span(last.start_s, entry.end_s, last.label)
                continue
            yield last
        last = _Span(entry.start_s, entry.end_s, entry.label)
    if last is not None:
        yield last


def _tiles(prediction: Prediction) -> Iterator[_Span]:
    """Cover the clip from 0 to its end without a hole, as a Praat tier must."""
    at_s = 0.0
    for span in _merged(prediction):
        if span.start_s > at_s + _JOIN_S:
            yield _Span(at_s, span.start_s, None)
        yield span
        at_s = span.end_s
    if at_s < prediction.duration_s - _JOIN_S or at_s == 0:
        # Praat refuses an interval without length, so that an empty clip lasts a millisecond
        yield _Span(at_s, max(prediction.duration_s, 0.001), None)


def _clock(time_s: float, point: str = ".") -> str:
    """Write seconds as ``hours:minutes:seconds.milliseconds``.

    >>> _clock(3661.5)
    '01:01:01.500'
    """
    seconds, milliseconds = divmod(round(time_s * 1000), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"


_WRITERS: dict[str, Callable[[Prediction], str]] = {
    "csv": _csv,
    "json": _json,
    "vtt": _vtt,
    "srt": _srt,
    "TextGrid": _text_grid,
}
