import csv
import io
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avser.emotions import VOCABULARY
from avser.errors import ConfigError
from avser.inference.writers import (
    COLUMNS,
    _clock,
    emotions_of,
    read_rows,
    write_csv,
    write_json,
    write_rows,
    write_timeline,
)
from avser.types import STEP_S, Prediction, TimelineEntry

LABELS = ["angry", "angry", None, "sad", "angry"]


def prediction(labels: list[str | None], *, duration_s: float | None = None) -> Prediction:
    ends = [STEP_S * (i + 1) for i in range(len(labels))]
    length = (ends[-1] if ends else 0.0) if duration_s is None else duration_s
    entries = tuple(
        TimelineEntry(
            start_s=STEP_S * i,
            end_s=min(end, length),
            label=label,
            probabilities=None if label is None else {"angry": 0.75, "sad": 0.25},
        )
        for i, (label, end) in enumerate(zip(labels, ends, strict=True))
    )
    return Prediction(
        label="angry",
        probabilities={"angry": 0.75, "sad": 0.25},
        modalities=("audio",),
        reason=None,
        duration_s=length,
        timeline=entries,
        model="tiny",
        path="clip.wav",
    )


def write(tmp_path: Path, name: str, labels: list[str | None], **kwargs: float) -> str:
    write_timeline(prediction(labels, **kwargs), tmp_path / name)
    return (tmp_path / name).read_text(encoding="utf-8")


def intervals(grid: str) -> list[tuple[float, float, str]]:
    result = re.findall(r'intervals \[\d+\]:\s+xmin = (\S+)\s+xmax = (\S+)\s+text = "(.*)"', grid)
    return [(float(a), float(b), text) for a, b, text in result]


def test_csv_has_a_row_a_step(tmp_path: Path) -> None:
    rows = list(csv.DictReader(write(tmp_path, "out.csv", LABELS).splitlines()))
    assert [row["label"] for row in rows] == ["angry", "angry", "", "sad", "angry"]
    assert rows[0] == {
        "start_s": "0.000",
        "end_s": "0.512",
        "label": "angry",
        **dict.fromkeys(VOCABULARY, ""),
        "angry": "0.7500",
        "sad": "0.2500",
    }
    assert list(rows[0]) == ["start_s", "end_s", "label", *VOCABULARY]
    assert rows[2]["angry"] == ""


def test_json_is_the_prediction(tmp_path: Path) -> None:
    text = write(tmp_path, "out.json", LABELS)
    assert json.loads(text) == prediction(LABELS).to_dict()


def test_vtt_merges_equal_neighbours(tmp_path: Path) -> None:
    assert write(tmp_path, "out.vtt", LABELS) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.024\nangry\n\n"
        "00:00:01.024 --> 00:00:01.536\n(silence)\n\n"
        "00:00:01.536 --> 00:00:02.048\nsad\n\n"
        "00:00:02.048 --> 00:00:02.560\nangry\n"
    )


def test_srt_is_numbered_and_has_commas(tmp_path: Path) -> None:
    cues = write(tmp_path, "out.srt", LABELS).split("\n\n")
    assert cues[0] == "1\n00:00:00,000 --> 00:00:01,024\nangry"
    assert cues[1] == "2\n00:00:01,024 --> 00:00:01,536\n(silence)"
    assert len(cues) == 4


def test_text_grid_tiles_the_clip(tmp_path: Path) -> None:
    grid = write(tmp_path, "out.TextGrid", LABELS)
    assert grid.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\n')
    assert [text for *_, text in intervals(grid)] == ["angry", "", "sad", "angry"]
    assert "intervals: size = 4\n" in grid


@given(st.lists(st.sampled_from(["angry", "sad", None]), max_size=12), st.floats(0, 9))
def test_text_grid_has_no_hole_for_any_timeline(labels: list[str | None], more_s: float) -> None:
    from avser.inference.writers import _text_grid

    whole = prediction(labels, duration_s=STEP_S * len(labels) + more_s)
    result = intervals(_text_grid(whole))
    assert result[0][0] == 0
    assert result[-1][1] == pytest.approx(max(whole.duration_s, 0.001), abs=1e-5)
    assert all(a[1] == b[0] for a, b in pairwise(result))
    assert all(start < end for start, end, _ in result)


def test_a_clip_without_signal(tmp_path: Path) -> None:
    assert write(tmp_path, "out.vtt", [], duration_s=2.0) == "WEBVTT\n"
    assert write(tmp_path, "out.srt", [], duration_s=2.0) == ""
    assert write(tmp_path, "out.csv", [], duration_s=2.0) == (
        f"start_s,end_s,label,{','.join(VOCABULARY)}\n"
    )
    assert intervals(write(tmp_path, "out.TextGrid", [], duration_s=2.0)) == [(0, 2, "")]


def test_names_that_mean_something_to_a_format(tmp_path: Path) -> None:
    assert 'text = "a""b"' in write(tmp_path, "out.TextGrid", ['a"b'])
    assert "a&lt;b&gt;" in write(tmp_path, "out.vtt", ["a<b>"])


def test_format_wins_over_suffix(tmp_path: Path) -> None:
    write_timeline(prediction(LABELS), tmp_path / "out.txt", format="textgrid")
    assert "ooTextFile" in (tmp_path / "out.txt").read_text()


def test_unknown_format_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'vt'.*csv, json, vtt, srt, TextGrid.*did you mean"):
        write_timeline(prediction(LABELS), tmp_path / "out.vt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(0, "00:00:00.000"), (59.9996, "00:01:00.000"), (7325.25, "02:02:05.250")],
)
def test_clock(time_s: float, text: str) -> None:
    assert _clock(time_s) == text


# -- rows of many clips --------------------------------------------------------------------------

GOOD = {
    "path": "a, b.wav",
    "label": "happy",
    "probabilities": {"happy": 0.75, "sad": 0.25},
    "modalities": ["audio", "video"],
    "reason": None,
    "duration_s": 1.5,
    "timeline": [],
    "model": "m",
}
SILENT = {**GOOD, "path": "b", "label": None, "probabilities": None, "modalities": [],
          "reason": "no_signal"}  # fmt: skip
BAD = {"path": "c", "error": {"type": "MediaError", "message": "Can't read c."}}
OTHER = {**GOOD, "path": "d", "label": "calm", "probabilities": {"calm": 1.0, "happy": 0.0}}
ROWS = [BAD, GOOD, SILENT, OTHER]


def test_columns_are_the_same_whatever_the_rows_are() -> None:
    for rows in ([], [BAD], [OTHER], ROWS):
        text = io.StringIO()
        write_csv(rows, text)
        assert text.getvalue().splitlines()[0] == (
            "path,label,probability,modalities,reason,duration_s,model,error,neutral,calm,happy,"
            "sad,angry,fearful,disgust,surprised,bored,excited,frustrated,contempt"
        )
    assert text.getvalue().splitlines()[1:] == [
        "c,,,,,,,Can't read c.,,,,,,,,,,,,",
        '"a, b.wav",happy,0.75,audio+video,,1.5,m,,,,0.75,0.25,,,,,,,,',
        "b,,,,no_signal,1.5,m,,,,,,,,,,,,,",
        "d,calm,1.0,audio+video,,1.5,m,,,1.0,0.0,,,,,,,,,",
    ]


def test_emotions_are_in_the_order_of_the_vocabulary() -> None:
    assert emotions_of(ROWS) == ["calm", "happy", "sad"]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.ndjson"])
def test_json_rows_are_read_as_they_were_written(tmp_path: Path, name: str) -> None:
    write_rows(iter(ROWS), tmp_path / name)
    assert list(read_rows(tmp_path / name)) == ROWS
    text = (tmp_path / name).read_text()
    lines = text if name.endswith("json") and not name.endswith("ndjson") else ""
    if lines:
        assert json.loads(lines) == ROWS
    else:
        assert [json.loads(line) for line in text.splitlines()] == ROWS


def test_no_rows_are_an_empty_array() -> None:
    text = io.StringIO()
    write_json([], text)
    assert json.loads(text.getvalue()) == []


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_tables_keep_all_but_the_timeline(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    write_rows(ROWS, tmp_path / name)
    bad, good, silent, other = read_rows(tmp_path / name)
    assert bad == {"path": "c", "error": {"type": "", "message": "Can't read c."}}
    assert good == {k: v for k, v in GOOD.items() if k != "timeline"}
    assert silent == {k: v for k, v in SILENT.items() if k != "timeline"}
    assert other["probabilities"] == {"calm": 1.0, "happy": 0.0}


def test_parquet_is_typed(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_rows(ROWS, tmp_path / "rows.parquet")
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert tuple(table.column_names) == COLUMNS
    assert str(table.schema.field("happy").type) == "double"
    assert table.column("happy").to_pylist() == [None, 0.75, None, 0.0]


def test_a_name_that_is_not_utf8_is_kept(tmp_path: Path) -> None:
    row = {**GOOD, "path": "caf\udce9.wav"}
    for name in ("rows.json", "rows.csv"):
        write_rows([row], tmp_path / name)
        (again,) = read_rows(tmp_path / name)
        assert again["path"] == row["path"]
    assert b"caf\xe9.wav" in (tmp_path / "rows.csv").read_bytes()
    parquet = pytest.importorskip("pyarrow.parquet")
    write_rows([row], tmp_path / "rows.parquet")
    assert parquet.read_table(tmp_path / "rows.parquet").column("path").to_pylist() == [
        "caf\\xe9.wav"
    ]


def test_strange_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"a": 1}')
    with pytest.raises(ConfigError, match="did not write them"):
        list(read_rows(tmp_path / "rows.json"))
