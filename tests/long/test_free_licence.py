"""The default recipe on a corpus with a free licence, from its owner's layout to the card."""

import json
from pathlib import Path

import pytest

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.testing.corpora.crema_d import fake_crema_d

pytestmark = pytest.mark.long
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "free_licence.md"


def command() -> list[str]:
    """The words of the guide's training command."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith("avser fit ")]
    return line.split()[1:]


def test_the_guide_s_command_trains_a_model_whose_card_names_the_licence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = tmp_path / "crema", tmp_path / "free"
    fake_crema_d(root)
    words = [{"CREMA-D/": str(root), "runs/free": str(run)}.get(word, word) for word in command()]
    small = ["size=mini", "pretrained=null", "layers=2", "join=[1,2]"]  # random weights
    words += [f"--model.audio.init_args.{setting}" for setting in small]
    assert main([*words, "--data.views=1", "--data.split.init_args.folds=2"]) == 0
    card = (run / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "Trained on crema_d" in card
    assert "The weights carry their data's licence: ODbL 1.0." in card
    assert "| telephone |" in card  # figures of degraded recordings
    loaded = bundle.load(run)
    assert loaded.provenance.licence == "ODbL 1.0"
    assert set(loaded.net.emotions) == {"angry", "disgust", "fearful", "happy", "neutral", "sad"}
    capsys.readouterr()
    clip = sorted((root / "AudioWAV").glob("*.wav"))[0]
    assert main(["classify", str(clip), "--model", str(run), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] in loaded.net.emotions
