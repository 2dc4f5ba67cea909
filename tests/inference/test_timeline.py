import csv
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avser.errors import ConfigError
from avser.inference.timeline import _clock, write_timeline
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
    found = re.findall(r'intervals \[\d+\]:\s+xmin = (\S+)\s+xmax = (\S+)\s+text = "(.*)"', grid)
    return [(float(a), float(b), text) for a, b, text in found]


def test_csv_has_a_row_a_step(tmp_path: Path) -> None:
    rows = list(csv.DictReader(write(tmp_path, "out.csv", LABELS).splitlines()))
    assert [row["label"] for row in rows] == ["angry", "angry", "", "sad", "angry"]
    assert rows[0] == {
        "start_s": "0.000",
        "end_s": "0.512",
        "label": "angry",
        "angry": "0.7500",
        "sad": "0.2500",
    }
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
    from avser.inference.timeline import _text_grid

    whole = prediction(labels, duration_s=STEP_S * len(labels) + more_s)
    found = intervals(_text_grid(whole))
    assert found[0][0] == 0
    assert found[-1][1] == pytest.approx(max(whole.duration_s, 0.001), abs=1e-5)
    assert all(a[1] == b[0] for a, b in pairwise(found))
    assert all(start < end for start, end, _ in found)


def test_a_clip_without_signal(tmp_path: Path) -> None:
    assert write(tmp_path, "out.vtt", [], duration_s=2.0) == "WEBVTT\n"
    assert write(tmp_path, "out.srt", [], duration_s=2.0) == ""
    assert write(tmp_path, "out.csv", [], duration_s=2.0) == "start_s,end_s,label\n"
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
