"""`avser table`: finished trainings side by side."""

import json
from pathlib import Path
from typing import Any

import pytest

from avser.cli import main


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def finished(folder: Path, **other: Any) -> Path:
    """A run folder with the results of a training, as `fit` and `crossval` write them."""
    names = ("uar", "accuracy", "macro_f1")
    summary = {
        "model": folder.name,
        "split": "speaker_kfold, 5 folds",
        "marks": [],
        "notes": ["picture features are clip-mean"],
        "n": 1200,
        "epochs": [60, 58],
        **dict(zip(names, (figure(0.583), figure(0.582), figure(0.571)), strict=True)),
        "parameters": 394521,
        "cost": {"bytes": 1_585_000, "minutes": 51.24, "clips_per_second": 201.7, "threads": 2},
        "split_hash": "1700b264",
    }
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(summary | other))
    return folder


def table(capsys: pytest.CaptureFixture[str], *words: str) -> list[list[str]]:
    assert main(["table", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_row_tells_figures_and_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, _, row = table(capsys, str(finished(tmp_path / "voice")), "--markdown")
    result = dict(zip(head, row, strict=True))
    assert result == {
        "run": "voice",
        "split": "speaker_kfold, 5 folds",
        "clips": "1,200",
        "epochs": "60",
        "UAR": ".583 [.533, .633]",
        "accuracy": ".582 [.532, .632]",
        "F1": ".571 [.521, .621]",
        "parameters": "394,521",
        "MB": "1.58",
        "minutes": "51.2",
        "clips/s": "202",
    }


def test_marks_shortened_recipes_and_other_levels_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    level = {"uar": figure(0.421), "accuracy": figure(0.461), "macro_f1": figure(0.425)}
    run = finished(
        tmp_path / "r1",
        marks=["RANDOM SPLIT", "SEEN SPEAKERS"],
        split="random, by chunk",
        notes=["a shortened recipe: 30 of 400 epochs"],
        levels={"clip": level},
    )
    rows = tmp_path / "rows.json"
    *_, row = table(capsys, str(run), "--markdown", "--json", str(rows))
    assert row[1] == "RANDOM SPLIT, SEEN SPEAKERS: random, by chunk" and row[3] == "30 of 400"
    assert row[4] == ".583 [.533, .633]; by clip .421"
    (kept,) = json.loads(rows.read_text())
    assert kept["uar"] == figure(0.583) and kept["levels"]["clip"]["accuracy"] == figure(0.461)


def test_runs_stand_below_each_other_and_one_that_is_not_finished_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = finished(tmp_path / "bare", epochs=[])
    results = json.loads((bare / "results.json").read_text())
    del results["cost"]
    (bare / "results.json").write_text(json.dumps(results))
    assert main(["table", str(finished(tmp_path / "voice")), str(bare)]) == 0
    message = capsys.readouterr().out
    assert message.index("voice") < message.index("bare") and ".583 [.533, .633]" in message
    (tmp_path / "empty").mkdir()
    assert main(["table", str(tmp_path / "empty")]) == 1
    assert "it has no results.json; let it finish" in capsys.readouterr().err
