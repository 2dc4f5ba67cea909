"""The shipped model on real recordings, where they are."""

import json
import os
from pathlib import Path

import pytest

from avser.cli import main

DATA = Path(os.environ.get("AVSER_DATA", Path(__file__).parents[2] / "shared" / "data"))

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (DATA / "ravdess").is_dir(), reason=f"no corpora in {DATA}; set AVSER_DATA"
    ),
]


def test_real_videos_are_heard_and_silent_ones_are_not_guessed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["classify", str(DATA / "ravdess_video"), "--recursive", "--json", "-"]) == 0
    rows = {Path(r["path"]).stem: r for r in json.loads(capsys.readouterr().out)}
    for name, row in rows.items():
        if name.startswith("01-"):  # a neutral take of a speaker of the training
            assert row["label"] == "neutral" and row["modalities"] == ["audio"]
            assert 3.0 < row["duration_s"] < 4.0
        else:
            assert row["label"] is None and row["reason"] == "no_signal"


def test_speakers_of_the_training_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--corpus", "ravdess", "--root", str(DATA / "ravdess"), "--speakers", "01,02"]
    assert main(["evaluate", *words, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 120 and found["seen_speakers"] == ["ravdess/01", "ravdess/02"]
    assert "SEEN SPEAKERS" in found["marks"]
    assert found["uar"]["value"] > 0.6  # it has seen them; far above chance of .125


def test_a_corpus_of_unseen_speakers_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--corpus", "savee", "--root", str(DATA / "savee"), "--json", "-"]
    assert main(["evaluate", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 360 and found["seen_speakers"] == [] and len(found["classes"]) == 7
    assert any("calm" in note for note in found["notes"])
