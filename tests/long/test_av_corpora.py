"""An audio-visual corpus in its owner's layout, from preparation to the report."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from avser.cli import main
from avser.inference.predictor import Predictor
from avser.media.faces import FACES_PER_STEP
from avser.media.reader import read_audio
from avser.testing.corpora.crema_d import fake_crema_d
from avser.testing.faces import Person, head, read_picture, scene, speaking
from avser.testing.media import Sound, voice, write_video, write_wav
from avser.testing.nets import tiny_spec
from avser.types import STEP_S

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
SPEAKERS = ("1001", "1002", "1003", "1004")
FPS = 10


def write_film(
    path: Path, samples: Sound, *, person: int, opening: Callable[[int], float] = lambda _: 0.0
) -> Path:
    """Write a film of a real face, which the detector needs, that moves while the take is heard.

    Args:
        path: of the film.
        samples: of its sound.
        person: number of the speaker.
        opening: of the mouth, 0 to 1, by the number of the frame.
    """
    shades = (1.0 - 0.1 * person, 1.0, 0.8 + 0.05 * person)
    face = read_picture(ROOT / "examples" / "face.jpg")
    own = head(face, height=90, mirrored=person % 2 == 1, tint=shades)
    count = max(2, round(FPS * len(samples) / 16_000))
    heads = speaking(own, [opening(i) for i in range(count)])
    way = [(0.5 + 0.02 * (i % 3), 0.5) for i in range(count)]
    images = [scene([Person(heads, way)], index=i) for i in range(count)]
    return write_video(path, np.stack(images), fps=FPS, samples=samples)


def write_films(root: Path) -> list[Path]:
    """Films of all takes of a fake of CREMA-D."""
    return [
        write_film(
            root / "VideoFlash" / f"{wav.stem}.flv",
            read_audio(wav),
            person=SPEAKERS.index(wav.name[:4]),
        )
        for wav in sorted((root / "AudioWAV").glob("*.wav"))
    ]


def settings(path: Path) -> Path:
    """A tiny net of voice and face."""
    model = tiny_spec() | {
        "video": {
            "class_path": "avser.models.encoders.face_cnn.FaceCnnEncoder",
            "init_args": {"channels": [8], "blocks": [1]},
        },
        "fusion": {"class_path": "avser.models.fusion.concat.ConcatFusion"},
    }
    trainer = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
    path.write_text(yaml.safe_dump({"model": model, "trainer": trainer}))
    return path


def test_crema_d_with_its_films_from_preparation_to_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fake_crema_d(tmp_path / "crema_d", speakers=SPEAKERS, per_emotion=1)
    films = write_films(root)
    data = ["-c", "configs/data/crema_d_video.yaml", "--root", str(root)]
    data += [f"--data.split.init_args.{part}" for part in ("folds=4", "validation_speakers=1")]
    assert main(["prepare", *data]) == 0
    assert "24 clips of crema_d" in capsys.readouterr().out
    run = tmp_path / "run"
    words = [*data, "-c", str(settings(tmp_path / "tiny.yaml")), "--data.batch_size=8"]
    assert main(["fit", *words, "--out", str(run)]) == 0
    report = tmp_path / "report"
    assert main(["evaluate", "--model", str(run), *data, "--report", str(report)]) == 0
    assert "crema_d" in (report / "report.html").read_text()
    prediction = Predictor.from_pretrained(run)(films[0], modality="both")
    assert prediction.modalities == ("audio", "video") and len(prediction.boxes) > 2


def moving_mouth(frame: int) -> float:
    """Whether the mouth is open: it moves within each step of two crops."""
    return float(int(frame / FPS / STEP_S * FACES_PER_STEP) % 2)


def held_mouth(frame: int) -> float:
    """The same, in as many crops, but the mouth moves between steps alone."""
    return float(int(frame / FPS / STEP_S) % 2)


def test_classes_that_differ_by_movement_alone(tmp_path: Path) -> None:
    root = tmp_path / "ravdess"
    films = []
    for person, actor in enumerate(("01", "02", "03", "04", "05")):
        for code, emotion, opening in (("03", "happy", moving_mouth), ("04", "sad", held_mouth)):
            take = f"01-{code}-01-01-01-{actor}"
            sound = voice(emotion, speaker=actor, seconds=6 * STEP_S)
            write_wav(root / f"Actor_{actor}" / f"03-{take}.wav", sound)
            film = root / f"Video_Speech_Actor_{actor}" / f"Actor_{actor}" / f"01-{take}.mp4"
            films.append(write_film(film, sound, person=person, opening=opening))
    words = ["-c", "configs/data/ravdess_video.yaml", "--root", str(root)]
    words += ["--data.split.init_args.validation_speakers=1"]
    words += ["-c", "configs/model/face_movement.yaml", "--model.init=null", "--model.ema=0"]
    words += ["--model.video.init_args.channels=[16,32]", "--model.video.init_args.blocks=[1,1]"]
    words += ["--model.image_augment=null", "--model.head=avser.models.heads.LinearHead"]
    words += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    words += ["--trainer.max_epochs=25", "--trainer.precision=32-true", "--data.batch_size=2"]
    words += ["--model.lr=0.01", "--model.lr_scale=null", "--trainer.gradient_clip_val=1"]
    apart = {}
    for statistics in ("[mean]", "[mean,deviation,centred]"):
        run = tmp_path / statistics
        own = ["--model.video.init_args.statistics", statistics]
        assert main(["fit", *words, *own, "--out", str(run)]) == 0
        predictor = Predictor.from_pretrained(run)
        answers = [predictor(film, modality="video") for film in films[:4]]
        happy = [a.probabilities["happy"] for a in answers if a.probabilities is not None]
        apart[statistics] = [happy[0] - happy[1], happy[2] - happy[3]]  # of one person each
    assert np.abs(apart["[mean]"]).max() < 0.05, apart  # a clip's mean does not depend on order
    assert np.min(apart["[mean,deviation,centred]"]) > 0.3, apart
