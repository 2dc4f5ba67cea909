import json
from pathlib import Path

import pytest

from avser.bundle import serialization as bundle
from avser.cli import main
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
