"""Samples in memory are classified as its file would be."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avser.errors import ConfigError, SignalError
from avser.inference.predictor import Predictor
from avser.media.faces import MtcnnDetector
from avser.media.reader import open_media, read_audio
from avser.models.encoders.face_cnn import FaceCnnEncoder
from avser.models.fusion.concat import ConcatFusion
from avser.models.heads import AttentiveHead
from avser.models.net import EmotionNet
from avser.testing.faces import read_picture
from avser.testing.media import voice, write_video
from avser.testing.nets import tiny_audio_encoder, tiny_net
from avser.types import Prediction

FACE = Path(__file__).parents[2] / "examples" / "face.jpg"
FPS = 10.0


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    net = EmotionNet(
        audio=tiny_audio_encoder(),
        video=FaceCnnEncoder(channels=(8, 8), blocks=(1, 1)),
        fusion=ConcatFusion(width=8),
        head=AttentiveHead(hidden=8),
        emotions=("happy", "sad", "angry"),
    )
    sound = Predictor(tiny_net(), name="voice", device="cpu")
    return Predictor(net, name="both", device="cpu", detector=MtcnnDetector(), voice=sound)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    face = read_picture(FACE)
    light = np.linspace(0.6, 1.0, 15)[:, None, None, None]
    pictures = (face[None] * light).astype(np.uint8)
    path = tmp_path_factory.mktemp("clip") / "one.mp4"
    write_video(path, pictures, samples=voice("happy", seconds=1.5), fps=FPS)
    return path


def decoded(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sound and pictures of a file, as another program would decode them."""
    with open_media(path, frame_times=[(i + 0.5) / FPS for i in range(15)]) as reader:
        pictures = [frame.image for block in reader for frame in block.frames]
    return read_audio(path), pictures


def same(a: Prediction, b: Prediction) -> None:
    assert a.probabilities is not None and b.probabilities is not None
    assert a.probabilities == pytest.approx(b.probabilities, abs=2e-3)
    assert (a.label, a.modalities, a.model) == (b.label, b.modalities, b.model)
    assert len(a.timeline) == len(b.timeline)


def test_sound_and_frames_in_memory_give_what_their_file_gives(
    predictor: Predictor, clip: Path
) -> None:
    samples, pictures = decoded(clip)
    source = {"array": samples, "sampling_rate": 16_000, "frames": pictures, "fps": FPS}
    of_file = predictor(clip)
    assert of_file.modalities == ("audio", "video")
    same(predictor(source), of_file)
    stacked = predictor({**source, "frames": np.stack(pictures)})
    as_pil = predictor({**source, "frames": [Image.fromarray(p) for p in pictures]})
    assert stacked.probabilities == as_pil.probabilities == predictor(source).probabilities


def test_frames_alone_give_what_the_file_gives_by_its_faces(
    predictor: Predictor, clip: Path
) -> None:
    _, pictures = decoded(clip)
    source = {"frames": pictures, "fps": FPS}
    same(predictor(source), predictor(clip, modality="video"))
    with pytest.raises(SignalError, match=r"Bad clip in memory: it has no audio stream"):
        predictor(source, modality="audio")


def test_an_audio_column_gives_what_its_samples_give(predictor: Predictor, clip: Path) -> None:
    """Decoded as a dict with float64, and as the object of newer versions."""
    samples = decoded(clip)[0]
    expected = predictor(samples, sample_rate=16_000)
    row = {"path": "a.wav", "array": samples.astype(np.float64), "sampling_rate": 16_000}
    result = predictor(row)
    assert (result.probabilities, result.path) == (expected.probabilities, "a.wav")
    made = SimpleNamespace(data=samples[None], sample_rate=16_000)
    decoder = SimpleNamespace(get_all_samples=lambda: made)
    assert predictor(decoder).probabilities == expected.probabilities
    with pytest.raises(SignalError, match=r"Bad clip a\.wav: it has no video stream"):
        predictor(row, modality="video")


def test_a_picture_gives_what_its_file_gives(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    Image.fromarray(read_picture(FACE)).save(path)
    expected = predictor(path)
    assert expected.modalities == ("video",)
    assert predictor(Image.open(path)).probabilities == expected.probabilities
    assert predictor(read_picture(FACE)).probabilities == expected.probabilities


def test_a_picture_of_pil_is_turned_upright(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(read_picture(FACE), 1)))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(path, exif=exif)
    expected = predictor(read_picture(FACE)).probabilities
    assert predictor(Image.open(path)).probabilities == expected


def test_a_list_may_mix_files_and_what_is_in_memory(predictor: Predictor, clip: Path) -> None:
    samples = decoded(clip)[0]
    row = {"array": samples, "sampling_rate": 16_000}
    result = predictor([row, clip, read_picture(FACE)])
    assert [p.modalities for p in result] == [("audio",), ("audio", "video"), ("video",)]
    assert [p.path for p in result] == [None, str(clip), None]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"array": np.zeros(9, np.float32)}, "their rate is not given"),
        ({"frames": [np.zeros((4, 4, 3), np.uint8)]}, "Bad fps None of frames: give their rate"),
        ({"frames": [], "fps": 25}, "Bad frames: there are none"),
        ({"bytes": b"", "path": "a.wav"}, "Bad source of type dict: expected a path"),
        (np.zeros((2, 4, 4, 3), np.uint8), "several pictures are given as {'frames'"),
        (np.zeros((4, 4, 4), np.uint8), r"expected uint8 \[H, W, 3\] in RGB"),
        (3, "Bad source of type int"),
    ],
)
def test_what_is_no_source_is_refused(predictor: Predictor, source: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        predictor(source)


def test_frames_have_one_row_a_clip_or_one_a_step(
    predictor: Predictor, clip: Path, tmp_path: Path
) -> None:
    lost = tmp_path / "lost.wav"
    expected = predictor(clip)
    table = predictor.to_frame([clip, lost])
    assert list(table.columns[:8]) == [
        *("path", "label", "probability", "modalities", "reason", "duration_s", "model", "error")
    ]
    assert list(table.columns[8:]) == ["happy", "sad", "angry"]
    first, second = table.to_dict("records")
    assert (first["path"], first["label"]) == (str(clip), expected.label)
    assert first["modalities"] == "audio+video"
    assert {name: first[name] for name in expected.probabilities or {}} == expected.probabilities
    assert "there is no such file" in second["error"] and second["path"] == str(lost)
    assert table["probability"].dtype == "float64" and table["happy"].isna().tolist() == [
        False,
        True,
    ]

    steps = predictor.to_frame(clip, timeline=True)
    assert len(steps) == len(expected.timeline) == 3
    assert steps["start_s"].tolist() == pytest.approx([0.0, 0.512, 1.024], abs=1e-3)
    assert steps["label"].tolist() == [entry.label for entry in expected.timeline]
    assert steps[["happy", "sad", "angry"]].sum(axis=1).tolist() == pytest.approx(
        [1, 1, 1], abs=1e-5
    )
    (failed,) = predictor.to_frame([lost], timeline=True).to_dict("records")
    assert "there is no such file" in failed["error"]


def test_without_pandas_one_sentence_says_what_to_install(
    predictor: Predictor, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avser.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pandas is missing; run pip install 'avser\[pandas\]'"):
        predictor.to_frame(clip)
