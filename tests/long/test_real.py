"""The shipped model on real recordings, where they are."""

import json
from pathlib import Path
from typing import Any

import pytest
from shared_data import DATA, missing

from avser.cli import main

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (DATA / "ravdess").is_dir(), reason=missing("ravdess", DATA, "AVSER_DATA")
    ),
]


def classified(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, Any]]:
    films = [str(DATA / "ravdess_video"), "--recursive", "--json", "-"]
    assert main(["classify", *films, *words]) == 0
    return {Path(r["path"]).stem: r for r in json.loads(capsys.readouterr().out)}


def test_real_videos_are_seen_and_heard(capsys: pytest.CaptureFixture[str]) -> None:
    for name, row in classified(capsys).items():
        assert 3.0 < row["duration_s"] < 4.0
        if name.startswith("01-"):  # a neutral take of a speaker of the training
            assert row["label"] == "neutral" and row["modalities"] == ["audio", "video"]
        else:
            assert row["modalities"] == ["video"] and row["reason"] == "the sound is silent"


def test_a_voice_model_does_not_guess_what_it_does_not_hear(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, row in classified(capsys, "--model", "audio_small.multi").items():
        if name.startswith("01-"):
            assert row["label"] == "neutral" and row["modalities"] == ["audio"]
        else:
            assert row["label"] is None and row["reason"] == "no_signal"


def test_speakers_of_the_training_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--corpus", "ravdess", "--root", str(DATA / "ravdess"), "--speakers", "01,02"]
    assert main(["evaluate", *words, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n"] == 120 and result["seen_speakers"] == ["ravdess/01", "ravdess/02"]
    assert "SEEN SPEAKERS" in result["marks"]
    assert result["uar"]["value"] > 0.6  # it has seen them; far above chance of .125


def test_unseen_speakers_are_measured_without_a_mark(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--corpus", "ravdess", "--root", str(DATA / "ravdess"), "--speakers", "01,02"]
    words += ["--model", "audio_small.multi"]  # which was not trained on them
    assert main(["evaluate", *words, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n"] == 120 and result["seen_speakers"] == [] and len(result["classes"]) == 7
    assert "SEEN SPEAKERS" not in result["marks"]
    assert result["uar"]["value"] > 0.35  # chance is .143
