"""Live sound with pictures: camera and microphone, or a media file in real time."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError, MediaError
from avser.export.runtime import LISTEN_STEPS
from avser.inference.live import BLOCK, AudioBlock, LivePrediction
from avser.inference.live_window import LiveBuffer, predict_live
from avser.inference.predictor import Predictor
from avser.media.faces import DETECT_HEIGHT, FACES_PER_STEP, sample_times
from avser.media.reader import open_media, scaled
from avser.types import SAMPLE_RATE, STEP_S, STEP_SAMPLES

_PICTURES = 32  # that may wait for the sound beside them


@dataclass(frozen=True)
class CameraFrame:
    """A picture ``[H, W, 3]`` RGB of a source, and when it was taken (``time.monotonic``)."""

    image: NDArray[np.uint8]
    at: float


def watch(
    predictor: Predictor,
    source: Iterable[AudioBlock | CameraFrame],
    *,
    window_steps: int = LISTEN_STEPS,
) -> Iterator[LivePrediction]:
    """Predict each step of sound and pictures on a sliding window, as a clip of it is predicted.

    A step that is a whole step late is left out, so that the delay does not grow on a machine
    that is too slow. What is left at the end is filled up to a step with silence.

    Args:
        predictor: with a video branch.
        source: sound, each picture before the sound that follows it.
        window_steps: steps of the window at most.

    Raises:
        ConfigError: the model judges no face.
    """
    if predictor.net.video is None:
        raise ConfigError(
            f"Bad --camera: model {predictor.name} has no video branch; leave --camera out, or "
            "name a model of voice and face, such as av.multi."
        )
    return _watch(predictor, source, window_steps)


def _watch(
    predictor: Predictor, source: Iterable[AudioBlock | CameraFrame], window_steps: int
) -> Iterator[LivePrediction]:
    _warm_up(predictor)
    buffer, last, rest = LiveBuffer(steps=window_steps), time.monotonic(), 0
    for item in source:
        if isinstance(item, CameraFrame):
            buffer.add_frame(item.image)
            continue
        last, rest = item.at, (rest + len(item.samples)) % STEP_SAMPLES
        yield from _predictions(predictor, buffer, item)
    if rest:
        silence = np.zeros(STEP_SAMPLES - rest, np.float32)
        yield from _predictions(predictor, buffer, AudioBlock(silence, last))


def _warm_up(predictor: Predictor) -> None:
    """Predict once before the source begins: the face detector is loaded with the first picture."""
    buffer = LiveBuffer()
    buffer.add_frame(np.zeros((DETECT_HEIGHT, DETECT_HEIGHT, 3), np.uint8))
    (window,) = buffer.push(np.zeros(STEP_SAMPLES, np.float32))
    predict_live(predictor, window)


def _predictions(
    predictor: Predictor, buffer: LiveBuffer, block: AudioBlock
) -> Iterator[LivePrediction]:
    """Predict the steps that a block completes."""
    for window in buffer.push(block.samples):
        if time.monotonic() - block.at > STEP_S:
            continue
        step = predict_live(predictor, window)
        buffer.keep_detections(step.frames)
        yield LivePrediction(step, 1000 * (time.monotonic() - block.at))


def from_video(path: str | Path, *, speed: float = 1.0) -> Iterator[AudioBlock | CameraFrame]:
    """Read a file's sound and pictures in real time; a file without sound gives silence.

    Args:
        path: of the file.
        speed: 2 is twice as fast; 0 does not wait at all.

    Raises:
        MediaError: the file can't be opened, or has no picture.
    """
    with open_media(path, frame_times=sample_times(), block_s=BLOCK / SAMPLE_RATE) as reader:
        if not reader.has_video:
            raise MediaError(f"Bad --camera {path}: it has no picture; leave --camera out.")
        begun, count = time.monotonic(), 0
        for block in reader:
            samples, silent = scaled(block.samples, reader.gain), not reader.has_audio
            if silent and block.frames:  # silence up to the picture
                length = round(block.frames[0].time_s * SAMPLE_RATE) - count
                samples = np.zeros(max(0, length), np.float32)
            count += len(samples)
            due = begun + count / SAMPLE_RATE / speed if speed else time.monotonic()
            time.sleep(max(0.0, due - time.monotonic()))
            sound = AudioBlock(samples, due)
            pictures = [CameraFrame(frame.image, due) for frame in block.frames]
            items: list[AudioBlock | CameraFrame] = [*pictures, sound]
            yield from reversed(items) if silent else items  # a block has one picture at most


def from_camera(number: int, sound: Iterable[AudioBlock]) -> Iterator[AudioBlock | CameraFrame]:
    """Join the pictures of a camera with the sound of another source, by their times.

    Args:
        number: of the camera, from 0.
        sound: such as that of `avser.inference.live.from_microphone`.

    Raises:
        MediaError: there is no such camera, or it gave no picture.
    """
    with _pictures(number) as waiting:
        for block in sound:
            while waiting and waiting[0].at <= block.at:
                yield waiting.popleft()
            yield block


@contextmanager
def _pictures(number: int) -> Iterator[deque[CameraFrame]]:
    """Open a camera; a thread keeps its latest pictures, as many a step as of a clip."""
    import cv2

    cv2.utils.logging.setLogLevel(
        cv2.utils.logging.LOG_LEVEL_SILENT
    )  # a missing camera is reported below, in one sentence
    camera = cv2.VideoCapture(number)
    if not camera.isOpened() or not camera.read()[0]:
        camera.release()
        raise MediaError(
            f"Bad camera {number}: it can't be opened or gives no picture; cameras are numbered "
            "from 0, and other programs may hold one."
        )
    waiting: deque[CameraFrame] = deque(maxlen=_PICTURES)
    ended = Event()

    def take() -> None:
        last = 0.0
        while not ended.is_set():
            given, picture = camera.read()
            if not given:
                print("avser listen: the camera gives no more pictures.", file=sys.stderr)
                return
            now = time.monotonic()
            if now - last >= STEP_S / FACES_PER_STEP:
                waiting.append(CameraFrame(np.ascontiguousarray(picture[..., ::-1]), now))
                last = now

    thread = Thread(target=take, name="avser-camera", daemon=True)
    thread.start()
    try:
        yield waiting
    finally:
        ended.set()
        thread.join(timeout=2.0)
        camera.release()
