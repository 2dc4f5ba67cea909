"""Normalisation by a speaker's own clips."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.errors import ConfigError, SignalError
from avser.inference.predictor import Predictor
from avser.models.encoders.whisper import WhisperEncoder
from avser.models.heads import LinearHead
from avser.models.net import EmotionNet
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle

EMOTIONS = ("happy", "sad", "angry")
SPEC = {
    "audio": {
        "class_path": "avser.models.encoders.whisper.WhisperEncoder",
        "init_args": {"size": "mini", "join": [1, 2], "normalise": "speaker"},
    },
    "head": {"class_path": "avser.models.heads.LinearHead"},
}


def net() -> EmotionNet:
    torch.manual_seed(0)
    encoder = WhisperEncoder(size="mini", join=(1, 2), normalise="speaker")
    return EmotionNet(audio=encoder, head=LinearHead(), emotions=EMOTIONS).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clips")
    for index in range(6):
        samples = voice(EMOTIONS[index % 3], speaker="a", seconds=0.7, seed=index)
        write_wav(made / f"{index}.wav", samples)
    return made


def test_the_clips_themselves_normalise_features(folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.glob("*.wav"))
    plain, enrolled = (
        Predictor(net(), name="w", device="cpu"),
        Predictor(net(), name="w", device="cpu"),
    )
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(b"RIFF no sound")
    enrolled.enrol([*files, damaged], own=True)
    encoder = enrolled.net.audio
    assert encoder is not None
    waves = []
    for index in range(6):
        samples = voice(EMOTIONS[index % 3], speaker="a", seconds=0.7, seed=index)
        waves.append((torch.from_numpy(samples)[None], torch.tensor([len(samples)])))
    expected = encoder.reference(waves)
    torch.testing.assert_close(enrolled._runner.reference, expected, atol=2e-3, rtol=1e-3)
    before, after = plain(files[0]), enrolled(files[0])
    assert before.model == "w" and after.model == "w ENROLLED"
    assert before.probabilities != after.probabilities
    enrolled.enrol(files)
    assert enrolled(files[0]).model == "w ENROLLED"  # the mark stands there once
    with pytest.raises(SignalError, match=r"4 clips of 3 s are too little of a speaker; legal"):
        enrolled.enrol(files[:4], own=True)


def test_a_long_recording_is_enrolled_from_its_whole_length(tmp_path: Path) -> None:
    quiet, loud = np.full(62 * 16_000, 0.0, np.float32), voice("angry", seconds=62.0)
    path = write_wav(tmp_path / "long.wav", np.concatenate([quiet, loud]))
    predictor = Predictor(net(), device="cpu")
    predictor.enrol([path], own=True)
    first = write_wav(tmp_path / "first.wav", np.concatenate([quiet, loud])[: 61 * 16_000])
    other = Predictor(net(), device="cpu")
    other.enrol([first], own=True)
    assert predictor._runner.reference is not None and other._runner.reference is not None
    assert not torch.allclose(predictor._runner.reference, other._runner.reference, atol=0.01)
    short = write_wav(tmp_path / "short.wav", loud[: 20 * 16_000])
    with pytest.raises(SignalError, match="1 clips of 20 s"):
        predictor.enrol([short], own=True)


def test_the_command_marks_every_row(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bundle.save(
        net(), tmp_path / "model", spec=SPEC, name="w", provenance=bundle.Provenance()
    )
    words = ["classify", str(folder), "--model", str(model), "--enrol", "self"]
    rows = tmp_path / "rows.json"
    assert main([*words, "--json", str(rows)]) == 0
    assert {row["model"] for row in json.loads(rows.read_text())} == {"w ENROLLED"}
    assert "ENROLLED" in capsys.readouterr().out
    one = str(sorted(folder.glob("*.wav"))[0])
    assert main(["classify", one, "--model", str(model), "--enrol", "self"]) == 1
    assert "too little of a speaker" in capsys.readouterr().err
    assert main(["classify", "-", "--model", str(model), "--enrol", "self"]) == 1
    assert "standard input can't be read twice" in capsys.readouterr().err


def test_a_model_that_does_not_normalise_by_speaker_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    predictor = Predictor.from_pretrained(tiny_bundle(tmp_path / "tiny"), device="cpu")
    with pytest.raises(ConfigError, match="does not normalise by speaker"):
        predictor.enrol(sorted(folder.glob("*.wav")), own=True)
