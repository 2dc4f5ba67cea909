"""An audio-visual corpus in its owner's layout, from preparation to the report."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from avser.cli import main
from avser.inference.predictor import Predictor
from avser.media.reader import read_audio
from avser.testing.corpora.crema_d import fake_crema_d
from avser.testing.faces import Person, head, read_picture, scene
from avser.testing.media import write_video
from avser.testing.nets import tiny_spec

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
SPEAKERS = ("1001", "1002", "1003", "1004")
FPS = 10


def write_films(root: Path) -> list[Path]:
    """Films of a real face, which the detector needs, that moves while the take is heard."""
    face = read_picture(ROOT / "examples" / "face.jpg")
    films = []
    for wav in sorted((root / "AudioWAV").glob("*.wav")):
        samples = read_audio(wav)
        number = SPEAKERS.index(wav.name[:4])
        shades = (1.0 - 0.1 * number, 1.0, 0.8 + 0.05 * number)
        person = head(face, height=90, mirrored=number % 2 == 1, tint=shades)
        count = max(2, round(FPS * len(samples) / 16_000))
        path = [(0.5 + 0.02 * (i % 3), 0.5) for i in range(count)]
        images = [scene([Person(person, path)], index=i) for i in range(count)]
        film = root / "VideoFlash" / f"{wav.stem}.flv"
        film.parent.mkdir(exist_ok=True)
        films.append(write_video(film, np.stack(images), fps=FPS, samples=samples))
    return films


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
