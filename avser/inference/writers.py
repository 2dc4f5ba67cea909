"""Files of predictions: rows of many clips, and the timeline of one.

Rows, one a clip (`write_rows`):

| format | content |
|---|---|
| json | an array of the objects that `Prediction.to_dict` gives, one a line |
| jsonl, ndjson | the same objects, one a line, without the array |
| csv | the columns of `COLUMNS`, always all and always in this order |
| parquet | the same columns, typed; needs pyarrow (extra ``scale``) |

`COLUMNS` are path, label, probability (of the label), modalities (joined by +), reason,
duration_s, model, error, and one probability for each emotion of `avser.emotions.VOCABULARY`. It
is empty where the model lacks that class. A failed clip has its path and its error.

Timelines (`write_timeline`):

| format | one entry is | equal neighbours | nothing to judge |
|---|---|---|---|
| csv | a step: start, end, label, all emotions of the vocabulary | apart | empty cells |
| json | the whole prediction, as `Prediction.to_dict` gives it | apart | null |
| vtt, srt | a subtitle | merged | ``(silence)`` |
| TextGrid | an interval of the tier "emotion" (long text format) | merged | empty text |
| eaf | an annotation of ELAN's tier "emotion"; a tier for each face | merged | none |
| labelstudio.json | a region of a pre-annotated Label Studio task | merged | none |
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from itertools import islice
from pathlib import Path
from typing import IO, Any

from avser.emotions import VOCABULARY, ordered
from avser.errors import ConfigError, unknown
from avser.extras import require
from avser.files import atomic_write
from avser.inference.annotation_files import eaf, label_studio
from avser.inference.spans import merged, tiles
from avser.types import Prediction

Row = Mapping[str, Any]  # as `Prediction.to_dict` gives it, or path and error

COLUMNS = (
    *("path", "label", "probability", "modalities", "reason", "duration_s", "model", "error"),
    *VOCABULARY,
)
TIMELINE_FORMATS = ("csv", "json", "vtt", "srt", "TextGrid", "eaf", "labelstudio.json")
SILENCE = "(silence)"

_PARQUET_ROWS = 4_096  # in memory at once


# -- rows of many clips --------------------------------------------------------------------------


def emotions_of(rows: Iterable[Row]) -> list[str]:
    """All emotions that the rows have probabilities of, in the order of the vocabulary."""
    return list(ordered(n for row in rows for n in row.get("probabilities") or {}))


def cells_of(row: Row) -> dict[str, str | float | None]:
    """One row as cells by the names of `COLUMNS`; None where a cell is empty."""
    shares = row.get("probabilities") or {}
    label = row.get("label")
    return {
        "path": row["path"],
        "label": label,
        "probability": shares.get(label),
        "modalities": "+".join(row.get("modalities", ())) or None,
        "reason": row.get("reason"),
        "duration_s": row.get("duration_s"),
        "model": row.get("model"),
        "error": row["error"]["message"] if "error" in row else None,
        **{name: shares.get(name) for name in VOCABULARY},
    }


def write_csv(rows: Iterable[Row], file: IO[str]) -> None:
    """Write a header and one line a row as they come; see `COLUMNS`."""
    table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow(cells_of(row))
        file.flush()


def write_json(rows: Iterable[Row], file: IO[str]) -> None:
    """Write a JSON array, a row a line, as the rows come."""
    before = "[\n"
    for row in rows:
        file.write(before + json.dumps(row))
        file.flush()
        before = ",\n"
    file.write("\n]\n" if before == ",\n" else "[]\n")


def write_rows(rows: Iterable[Row], path: str | Path) -> None:
    """Write rows to a file, all or nothing, in the format of its suffix.

    Raises:
        ConfigError: the suffix is none of the formats, or pyarrow is missing.
    """
    kind = Path(path).suffix.lower()
    if kind == ".parquet":
        _write_parquet(rows, path)
        return
    with atomic_write(path) as file:
        if kind == ".csv":
            write_csv(rows, file)
        elif kind in (".jsonl", ".ndjson"):
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            write_json(rows, file)


def read_rows(path: str | Path) -> Iterator[Row]:
    """Read the rows of a file that `write_rows` made; CSV and Parquet hold no timeline.

    Raises:
        ConfigError: it is no such file.
    """
    kind = Path(path).suffix.lower()
    try:
        if kind == ".parquet":
            yield from read_parquet(path)
        else:
            with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                yield from (
                    map(_row_of_cells, csv.DictReader(file))
                    if kind == ".csv"
                    else (_json_rows(file))
                )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"Bad results {path}: avser classify did not write them; remove the file."
        ) from error


def read_parquet(file: str | Path | IO[bytes]) -> Iterator[Row]:
    """Read the rows of `write_parquet`, without timelines.

    Raises:
        ConfigError: pyarrow is missing.
    """
    require("scale", "pyarrow")
    import pyarrow.parquet as parquet

    for batch in parquet.ParquetFile(file).iter_batches(_PARQUET_ROWS):
        yield from map(_row_of_cells, batch.to_pylist())


def count_parquet(file: IO[bytes]) -> tuple[int, int]:
    """Number of rows of `write_parquet`, and of those with an error; reads that column alone.

    Raises:
        ConfigError: pyarrow is missing.
    """
    require("scale", "pyarrow")
    import pyarrow.parquet as parquet

    errors = parquet.read_table(file, columns=["error"])["error"]
    return len(errors), len(errors) - errors.null_count


def _json_rows(file: IO[str]) -> Iterator[Row]:
    """Rows of a JSON array or of JSON lines, line by line."""
    for line in file:
        text = line.strip().removesuffix(",")
        if text not in ("[", "]", "[]", ""):
            row = json.loads(text)
            if not isinstance(row["path"], str):
                raise ValueError("a row without a path")
            yield row


def _row_of_cells(cells: Mapping[str, Any]) -> Row:
    """The row of a table's cells, without its timeline."""
    if cells["error"]:
        return {"path": cells["path"], "error": {"type": "", "message": cells["error"]}}
    shares = {n: float(cells[n]) for n in VOCABULARY if cells[n] not in ("", None)}
    return {
        "path": cells["path"],
        "label": cells["label"] or None,
        "probabilities": shares or None,
        "modalities": (cells["modalities"] or "").split("+") if cells["modalities"] else [],
        "reason": cells["reason"] or None,
        "duration_s": float(cells["duration_s"]),
        "model": cells["model"],
    }


def _write_parquet(rows: Iterable[Row], path: str | Path) -> None:
    with atomic_write(path, mode="wb") as file:
        write_parquet(rows, file)


def write_parquet(rows: Iterable[Row], file: IO[bytes]) -> None:
    """Write a typed table, a row a clip; see `COLUMNS`.

    Raises:
        ConfigError: pyarrow is missing.
    """
    require("scale", "pyarrow")
    import pyarrow
    import pyarrow.parquet as parquet

    words = {"path", "label", "modalities", "reason", "model", "error"}
    schema = pyarrow.schema(
        [(n, pyarrow.string() if n in words else pyarrow.float64()) for n in COLUMNS]
    )
    with parquet.ParquetWriter(file, schema) as table:
        cells = ({k: _utf8(v) for k, v in cells_of(row).items()} for row in rows)
        while part := list(islice(cells, _PARQUET_ROWS)):
            table.write_table(pyarrow.Table.from_pylist(part, schema=schema))


def _utf8(cell: str | float | None) -> str | float | None:
    """Escape bytes of a file's name that are not UTF-8: Parquet holds nothing else."""
    if not isinstance(cell, str):
        return cell
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# -- the timeline of one clip --------------------------------------------------------------------


def write_timeline(prediction: Prediction, path: str | Path, *, format: str | None = None) -> None:
    """Write the timeline of a prediction; an old file is replaced in one step.

    Args:
        prediction: of one clip.
        path: file to write; missing folders are made.
        format: one of `TIMELINE_FORMATS`; None goes by the suffix of `path`.

    Raises:
        ConfigError: there is no such format.
    """
    text = timeline_text(prediction, timeline_format(path) if format is None else format)
    with atomic_write(path) as file:
        file.write(text)


def timeline_format(path: str | Path) -> str:
    """Return the one of `TIMELINE_FORMATS` that a file's name ends in, or else its suffix.

    >>> timeline_format("clip.labelstudio.json"), timeline_format("clip.JSON")
    ('labelstudio.json', 'json')
    """
    name = Path(path).name.lower()
    legal = [f for f in TIMELINE_FORMATS if name.endswith(f".{f.lower()}")]
    return max(legal, key=len, default=Path(path).suffix.removeprefix("."))


def timeline_text(prediction: Prediction, format: str) -> str:
    """Return the content of a timeline file.

    Raises:
        ConfigError: there is no such format.
    """
    writer = next((w for name, w in _TIMELINES.items() if name.lower() == format.lower()), None)
    if writer is None:
        raise ConfigError(unknown("timeline format", format, _TIMELINES))
    return writer(prediction)


def _csv(prediction: Prediction) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["start_s", "end_s", "label", *VOCABULARY])
    for entry in prediction.timeline:
        shares = entry.probabilities or {}
        cells = [f"{shares[name]:.4f}" if name in shares else "" for name in VOCABULARY]
        table.writerow([f"{entry.start_s:.3f}", f"{entry.end_s:.3f}", entry.label or "", *cells])
    return text.getvalue()


def _json(prediction: Prediction) -> str:
    return json.dumps(prediction.to_dict(), indent=2) + "\n"


def _vtt(prediction: Prediction) -> str:
    cues = [
        f"{_clock(span.start_s)} --> {_clock(span.end_s)}\n"
        f"{escape(span.label or SILENCE, quote=False)}\n"
        for span in merged(prediction.timeline)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _srt(prediction: Prediction) -> str:
    cues = [
        f"{number}\n{_clock(span.start_s, ',')} --> {_clock(span.end_s, ',')}\n"
        f"{span.label or SILENCE}\n"
        for number, span in enumerate(merged(prediction.timeline), 1)
    ]
    return "\n".join(cues)


def _text_grid(prediction: Prediction) -> str:
    spans = list(tiles(prediction))
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


def _clock(time_s: float, point: str = ".") -> str:
    """Write seconds as ``hours:minutes:seconds.milliseconds``.

    >>> _clock(3661.5)
    '01:01:01.500'
    """
    seconds, milliseconds = divmod(round(time_s * 1000), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"


_TIMELINES: dict[str, Callable[[Prediction], str]] = {
    "csv": _csv,
    "json": _json,
    "vtt": _vtt,
    "srt": _srt,
    "TextGrid": _text_grid,
    "eaf": eaf,
    "labelstudio.json": label_studio,
}
