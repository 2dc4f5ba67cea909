"""Commands of a federation, in this process."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from federations import tiny_model

from avser.cli import main
from avser.evaluation.numbers import format_figure
from avser.testing.corpora.ravdess import fake_ravdess


def output(capsys: pytest.CaptureFixture[str], words: Sequence[str], code: int) -> str:
    assert main(["federate", *words]) == code
    recorded = capsys.readouterr()
    return " ".join((recorded.out + recorded.err).split())


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A simulation of four clients over one round."""
    corpus = {
        "class_path": "avser.datamodules.corpora.ravdess.Ravdess",
        "init_args": {"root": str(tmp_path / "ravdess")},
    }
    split = {"class_path": "avser.data.splits.SpeakerKFold", "init_args": {"folds": 5}}
    fake_ravdess(tmp_path / "ravdess", speakers=5, per_emotion=2)
    data: dict[str, Any] = {"corpus": corpus, "split": split, "batch_size": 8}
    (tmp_path / "all.yaml").write_text(
        yaml.safe_dump({"data": data | {"emotions": ["sad", "angry"]}, "model": tiny_model()})
    )
    return ["-c", str(tmp_path / "all.yaml"), "--rounds", "1", "--local-epochs", "1"]


def test_a_simulation_is_reported_and_goes_on_where_it_ended(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    recorded = output(capsys, ["simulate", *words, "--compare", "central", "--out", str(run)], 0)
    assert "4 clients" in recorded and "trained centrally on the same clips" in recorded
    results = json.loads((run / "results.json").read_text())
    facts = results["federated"]
    assert facts["clients"] == 4 and facts["rounds"] == 1 and 0 <= facts["central"]["uar"] <= 1
    assert facts["bytes_up_per_client_round"] > 0 and "local" not in facts
    assert (run / "report.html").is_file() and (run / "bundle" / "config.yaml").is_file()

    table = output(capsys, ["table", str(run), "--json", str(tmp_path / "row.json")], 0)
    (row,) = json.loads((tmp_path / "row.json").read_text())
    assert row["run"] == "run" and row["uar"] == facts["figures"]["uar"]
    assert row["central"] == facts["central"] and row["alone"] is None
    assert "fedavg" in table and format_figure(row["uar"]) in table

    based = [
        "simulate",
        *words,
        "--base",
        str(run),
        "--compare",
        "none",
        "--out",
        str(tmp_path / "b"),
    ]
    recorded = output(capsys, [*based, "--keep-updates"], 0)
    assert "the base model before the first round: UAR" in recorded


def test_epsilon_is_printed_and_updates_are_audited(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "private")
    private = ["--dp", "noise:1,clip:0.5", "--fraction", "1", "--compare", "none"]
    recorded = output(capsys, ["simulate", *words, *private, "--keep-updates", "--out", run], 0)
    assert "epsilon" in recorded
    recorded = output(capsys, ["audit-leakage", run], 0)
    assert "4 speakers, 4 updates, clipped, as the server receives them" in recorded
    assert "with the run's noise (1 times the clip 0.5) on each" in recorded
    assert recorded.count("chance .500") == 2


@pytest.mark.parametrize(
    ("words", "code", "recorded"),
    [
        ([], 2, "usage: avser federate COMMAND"),
        (["--help"], 0, "audit-leakage"),
        (["simulat"], 2, "simulate"),
        (["simulate", "--out", "x", "--compare", "centrally"], 1, "central, local or none"),
        (["table", "nowhere"], 1, "it has no results.json"),
        (["model", "--server", "http://127.0.0.1:9", "--out", "x"], 1, "Bad server"),
        (["test", "--server", "http://127.0.0.1:9", "--corpus", "test"], 1, "Bad server"),
        (["contribute", "--server", "http://x", "--join", "h:1"], 1, "--ca and --key"),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str], code: int, recorded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recorded in output(capsys, words, code)


def test_a_run_that_is_no_federation_has_no_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text("{}")
    assert "no federated training" in output(capsys, ["table", str(tmp_path)], 1)
