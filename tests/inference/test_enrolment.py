"""Normalisation by a speaker's own clips."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.errors import ConfigError, SignalError
from avser.inference.ensemble import Ensemble
from avser.inference.predictor import Predictor
from avser.media.clip import CENTRED, EMBEDDINGS_CENTRED, EMBEDDINGS_CENTRED_RUNNING
from avser.media.faces import Detection
from avser.models.encoders.faces import FaceEncoder, StepStatistic
from avser.models.encoders.whisper import WhisperEncoder
from avser.models.heads import LinearHead
from avser.models.net import EmotionNet
from avser.testing.media import voice, write_video, write_wav
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


# -- faces whose embeddings are known ------------------------------------------------------------


class GreyLevel(FaceEncoder):
    """A crop's grey level, 0 to 1."""

    width = 1

    def embed(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))[:, :1]


class OneFace:
    """One face in every picture that is not black."""

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        points = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
        face = Detection((40.0, 30.0, 60.0, 60.0), 0.99, points * 60 + (40, 30))
        return [face] if image.mean() > 30 else []


def grey_predictor(*statistics: StepStatistic) -> Predictor:
    """Logits are (4, -4) times each statistic of a step."""
    head = LinearHead(dropout=0.0)
    video = GreyLevel(statistics=statistics)
    made = EmotionNet(video=video, head=head, emotions=("happy", "sad"))
    for layer in made.heads["video"].modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data = torch.tensor([[4.0], [-4.0]]).expand(-1, len(statistics)).clone()
            layer.bias.data.zero_()
    return Predictor(made, device="cpu", detector=OneFace())


def grey_film(path: Path, level: int, *, seconds: float) -> Path:
    return write_video(path, np.full((round(8 * seconds), 120, 160, 3), level, np.uint8), fps=8.0)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Grey levels .25 in 4 steps, .55 in 8, and nobody."""
    home = tmp_path_factory.mktemp("films")
    dark = grey_film(home / "dark.mp4", 64, seconds=2.0)
    light = grey_film(home / "light.mp4", 140, seconds=4.0)
    return dark, light, grey_film(home / "nobody.mp4", 0, seconds=1.0)


def happy(predictor: Predictor, path: Path) -> float:
    shares = predictor(path).probabilities
    assert shares is not None
    return shares["happy"]


def two_class_share(logit: float) -> float:
    return float(1 / (1 + np.exp(-2 * logit)))


def test_centred_embeddings_are_less_the_enrolled_persons_mean(
    films: tuple[Path, Path, Path],
) -> None:
    predictor = grey_predictor("centred")
    levels = np.array([64 / 255, 140 / 255])
    so_far = levels[0] * np.mean([1 - n / (n + 39) for n in range(1, 5)])  # shrunk running mean
    assert happy(predictor, films[0]) == pytest.approx(two_class_share(4 * so_far), abs=5e-3)
    assert predictor(films[0]).reason == EMBEDDINGS_CENTRED_RUNNING
    predictor.enrol(films)
    video = predictor.net.video
    assert isinstance(video, GreyLevel) and video.person_mean is not None
    person = (4 * levels[0] + 8 * levels[1]) / 12  # each step counts once
    assert video.person_mean.tolist() == pytest.approx([person], abs=5e-3)
    # log odds of the centred levels, whose mean over the person's steps is 0
    assert happy(predictor, films[1]) == pytest.approx(
        two_class_share(4 * (levels[1] - person)), abs=5e-3
    )
    assert predictor(films[0]).reason == f"{CENTRED}; {EMBEDDINGS_CENTRED}"
    assert "video.person_mean" not in predictor.net.state_dict()
    predictor.enrol([films[1]])  # another person in place of the first one
    assert happy(predictor, films[1]) == pytest.approx(0.5, abs=1e-3)


def test_scores_alone_are_centred_without_centred_statistics(
    films: tuple[Path, Path, Path],
) -> None:
    predictor = grey_predictor("mean")
    predictor.enrol(films)
    video = predictor.net.video
    assert isinstance(video, GreyLevel) and video.person_mean is None
    assert predictor(films[0]).reason == CENTRED


def test_an_ensemble_gives_the_marks_of_any_model(films: tuple[Path, Path, Path]) -> None:
    both = Ensemble([grey_predictor("centred"), grey_predictor("mean")])
    (prediction,) = both.classify([films[0]])
    assert prediction.reason == EMBEDDINGS_CENTRED_RUNNING
    both.enrol(films)
    (prediction,) = both.classify([films[0]])
    assert prediction.reason == f"{CENTRED}; {EMBEDDINGS_CENTRED}"
