"""Live voice and face: pictures beside their sound, from a camera or a file."""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avser.cli import main
from avser.errors import ConfigError, MediaError
from avser.inference import camera
from avser.inference.camera import CameraFrame, from_camera, from_video, watch
from avser.inference.live import BLOCK, AudioBlock
from avser.inference.live_window import LiveStep, LiveWindow
from avser.inference.predictor import Predictor
from avser.testing.media import face_frames, voice, write_video, write_wav
from avser.testing.nets import tiny_bundle, tiny_net
from avser.types import STEP_S, STEP_SAMPLES, TimelineEntry

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.mp4"


def read(path: Path) -> tuple[list[tuple[float, CameraFrame]], np.ndarray]:
    """Pictures, with the seconds of sound before them, and the sound."""
    sound, pictures = [np.zeros(0, np.float32)], []
    for item in from_video(path, speed=0):
        if isinstance(item, CameraFrame):
            pictures.append((sum(map(len, sound)) / 16_000, item))
        else:
            sound.append(item.samples)
    return pictures, np.concatenate(sound)


@pytest.mark.parametrize("silent", [False, True])
def test_a_file_gives_its_pictures_beside_their_sound(silent: bool, tmp_path: Path) -> None:
    """A file without sound gives as much silence as its pictures last."""
    samples = None if silent else voice("happy", seconds=2.0)
    frames = face_frames("happy", count=20, size=48)
    pictures, sound = read(write_video(tmp_path / "clip.mp4", frames, samples=samples, fps=10))
    times = np.array([time_s for time_s, _ in pictures])
    assert times == pytest.approx(camera_times(len(times)), abs=0.04)
    assert pictures[0][1].image.shape == (48, 48, 3)
    assert len(sound) / 16_000 == pytest.approx(2.0, abs=0.2)
    assert (np.abs(sound).max() == 0) == silent


def camera_times(count: int) -> list[float]:
    """When the pictures of a clip are looked at."""
    return list(itertools.islice(camera.sample_times(), count))


def test_a_file_without_a_picture_is_refused(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "voice.wav", voice("happy"))
    with pytest.raises(MediaError, match="it has no picture; leave --camera out"):
        next(from_video(path))


class FakeCamera:
    """Three pictures, as far apart as the clock goes; then none."""

    def __init__(self, number: int) -> None:
        self.left = 4 if number == 0 else 0

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return self.left > 0

    def read(self) -> tuple[bool, Any]:
        self.left -= 1
        return self.left >= 0, np.full((4, 4, 3), (1, 2, 3), np.uint8)

    def release(self) -> None:
        pass


def test_pictures_of_a_camera_come_before_later_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1.0, 0.3)
    monkeypatch.setattr("cv2.VideoCapture", FakeCamera)
    monkeypatch.setattr(camera.time, "monotonic", lambda: next(clock))

    def sound() -> Iterator[AudioBlock]:
        while len(kept[0]) < 3:  # the thread has taken the last picture
            pass
        yield from (AudioBlock(np.zeros(BLOCK, np.float32), at) for at in (1.1, 1.5, 1.7))

    kept: list[Any] = []
    pictures = camera._pictures

    def watched(number: int) -> Any:
        manager = pictures(number)
        waiting = manager.__enter__()
        kept.append(waiting)
        return Entered(waiting, manager)

    monkeypatch.setattr(camera, "_pictures", watched)
    items = list(from_camera(0, sound()))
    assert [(type(item).__name__, item.at) for item in items] == [
        ("CameraFrame", 1.0),
        ("AudioBlock", 1.1),
        ("CameraFrame", pytest.approx(1.3)),
        ("AudioBlock", 1.5),
        ("CameraFrame", pytest.approx(1.6)),
        ("AudioBlock", 1.7),
    ]
    assert items[0].image[0, 0].tolist() == [3, 2, 1], "the camera's order is BGR"


class Entered:
    """A context that is entered already."""

    def __init__(self, value: Any, manager: Any) -> None:
        self.value, self.manager = value, manager

    def __enter__(self) -> Any:
        return self.value

    def __exit__(self, *error: Any) -> None:
        self.manager.__exit__(*error)


def test_a_missing_camera_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.VideoCapture", FakeCamera)
    with pytest.raises(MediaError, match="Bad camera 7: it can't be opened or gives no picture"):
        next(from_camera(7, iter(())))


def test_steps_that_are_late_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left at the end is filled up with silence."""
    windows: list[LiveWindow] = []

    def record(predictor: Predictor, window: LiveWindow) -> LiveStep:
        windows.append(window)
        entry = TimelineEntry(
            start_s=window.step_start_s,
            end_s=window.step_start_s + STEP_S,
            label=None,
            probabilities=None,
        )
        return LiveStep(entry, 0.0, False, (), "tiny", None, window.frames)

    monkeypatch.setattr(camera, "predict_live", record)
    predictor = Predictor(tiny_net(features=3), device="cpu")
    now, picture = time.monotonic(), np.zeros((2, 2, 3), np.uint8)
    step = np.ones(STEP_SAMPLES, np.float32)
    late = AudioBlock(step, now - 10 * STEP_S)
    source = [CameraFrame(picture, now), AudioBlock(step, now + 99), late]
    source += [CameraFrame(picture, now), AudioBlock(step[:100], now + 99)]
    ends = [p.step.end_s for p in watch(predictor, source)]
    assert ends == pytest.approx([STEP_S, 3 * STEP_S])
    assert [len(window.frames) for window in windows[1:]] == [1, 2]  # the first one warms up
    assert windows[-1].samples[-STEP_SAMPLES:].sum() == 100


def test_a_model_of_voices_alone_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_bundle(tmp_path / "tiny")
    with pytest.raises(ConfigError, match="model tiny has no video branch"):
        watch(Predictor.from_pretrained(folder, device="cpu"), [])
    assert main(["listen", "--camera", str(SAMPLE), "--model", "voice.onnx"]) == 1
    assert "an exported file reads sound alone" in capsys.readouterr().err


@pytest.mark.long
def test_the_command_labels_voice_and_face(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line is the label of the last seconds; the box is that of the face."""
    monkeypatch.setattr(from_video, "__kwdefaults__", {"speed": 0})  # so that no step is late
    assert main(["listen", "--camera", str(SAMPLE), "--json"]) == 0
    output = capsys.readouterr()
    rows = [json.loads(line) for line in output.out.splitlines()]
    assert "av.multi and audio_whisper.multi: each label uses the last 3.1 s" in output.err
    assert [r["end_s"] for r in rows] == pytest.approx([(i + 1) * STEP_S for i in range(10)])
    assert all(row["modalities"] == ["audio", "video"] for row in rows)
    assert all(0.1 < row["box"]["x"] < 0.6 for row in rows)
