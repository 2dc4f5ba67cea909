import json
from pathlib import Path

import numpy as np
import pytest

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.evaluation.predictions import Predictions
from avser.testing.nets import tiny_bundle


def test_a_release_keeps_the_answers_and_gains_figures_and_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tiny_bundle(tmp_path / "run" / "bundle")
    figures = {"uar": {"value": 0.5, "low": 0.4, "high": 0.6}, "n": 7, "confusion": [[1]]}
    (tmp_path / "results.json").write_text(json.dumps(figures))
    words = ["--figures", str(tmp_path / "results.json"), "--command", "avser crossval X"]
    assert main(["release", str(old.parent), "--out", str(tmp_path / "m.corpus"), *words]) == 0
    before, after = bundle.load(old), bundle.load(tmp_path / "m.corpus")
    assert after.name == "m.corpus" and after.provenance == before.provenance
    assert after.config["weights"] == before.config["weights"]
    assert after.config["figures"]["uar"]["value"] == 0.5
    assert "confusion" not in after.config["figures"]  # the card does not show it
    assert ".500 [.400, .600]" in after.card and "avser crossval X" in after.card
    assert "From a cross-validation of the same recipe" in after.card
    assert "bytes" in capsys.readouterr().out


def test_missing_figures_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tiny_bundle(tmp_path / "bundle")
    words = ["--out", str(tmp_path / "new"), "--figures", str(tmp_path / "none.json")]
    assert main(["release", str(old), *words]) == 1
    message = capsys.readouterr().err
    assert "none.json" in message and "results.json" in message and message.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_crossvalidation_chooses_the_temperature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tiny_bundle(tmp_path / "bundle")
    emotions = bundle.load(old).net.emotions
    random = np.random.default_rng(0)
    logits = random.normal(size=(900, len(emotions)))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(len(emotions), p=row) for row in shares])
    sharp = np.exp(2.5 * logits) / np.exp(2.5 * logits).sum(axis=1, keepdims=True)
    for fold in (0, 1, 2):
        folder = tmp_path / "run" / "seed0" / f"fold{fold}"
        tiny_bundle(folder / "bundle")  # its temperature is 1
        rows = slice(300 * fold, 300 * fold + 300)
        part = Predictions(
            clip_ids=[f"c/{i}" for i in range(rows.start, rows.stop)],
            speakers=[f"c/{fold}"] * 300,
            sexes=[""] * 300,
            labels=labels[rows],
            probabilities=sharp[rows],
            emotions=emotions,
            seen=[False] * 300,
        )
        (folder / "predictions").mkdir()
        part.save(folder / "predictions" / "test.json")
        if fold < 2:
            (folder / "DONE").touch()
    words = ["release", str(old), "--out", str(tmp_path / "new")]
    words += ["--calibration", str(tmp_path / "run")]
    assert main(words) == 1
    assert "3 folds, 1 of them unfinished" in capsys.readouterr().err
    (folder / "DONE").touch()
    assert main(words) == 0
    before, after = bundle.load(old).config, bundle.load(tmp_path / "new").config
    assert before["temperatures"] == {"audio": 1.0}
    assert after["temperatures"]["audio"] == pytest.approx(2.5, rel=0.1)
    assert before["weights"] == after["weights"]
    assert main([*words[:-1], str(tmp_path / "none")]) == 1
    assert "0 folds" in capsys.readouterr().err
