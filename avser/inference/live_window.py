"""Predictions on live sound and pictures: a window of the last steps, classified at each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avser.export.runtime import LISTEN_STEPS, level_dbfs
from avser.types import SILENCE_DBFS, STEP_S, STEP_SAMPLES, FaceBox, Prediction, TimelineEntry

if TYPE_CHECKING:
    from avser.inference.predictor import Predictor
    from avser.media.faces import Detection

Samples = NDArray[np.float32]
Image = NDArray[np.uint8]

_MOST_FRAMES = 4  # a step; a camera may give more


@dataclass(frozen=True)
class LiveFrame:
    """A picture of a live recording.

    Attributes:
        time_s: since the recording began.
        image: ``[H, W, 3]`` RGB, or an encoded one (JPEG) that is decoded where it is needed.
        detections: faces in it; None before detection.
    """

    time_s: float
    image: Image | bytes
    detections: tuple[Detection, ...] | None = None


@dataclass(frozen=True)
class LiveWindow:
    """The last steps of a live recording, of which the last one is to be labelled.

    Attributes:
        start_s: of the window.
        samples: ``[T * 8192]``.
        frames: in the order of their times.
    """

    start_s: float
    samples: Samples
    frames: tuple[LiveFrame, ...] = ()

    @property
    def step_start_s(self) -> float:
        """Beginning of the last step."""
        return self.start_s + len(self.samples) / STEP_SAMPLES * STEP_S - STEP_S


@dataclass(frozen=True)
class LiveStep:
    """Prediction of one live step.

    Attributes:
        entry: of the step.
        level_dbfs: level of the sound.
        silent: the level is under -60 dBFS.
        modalities: streams that were used.
        model: that was used.
        box: of the face in the last picture, if any.
        frames: of the window, with the faces in them.
    """

    entry: TimelineEntry
    level_dbfs: float
    silent: bool
    modalities: tuple[str, ...]
    model: str
    box: FaceBox | None
    frames: tuple[LiveFrame, ...] = field(repr=False)

    @property
    def start_s(self) -> float:
        """Beginning of the step."""
        return self.entry.start_s

    @property
    def end_s(self) -> float:
        """End of the step."""
        return self.entry.end_s

    @property
    def label(self) -> str | None:
        """Label of the step; None where there was nothing to judge."""
        return self.entry.label

    @property
    def probabilities(self) -> Mapping[str, float] | None:
        """Emotion to probability; None where there was nothing to judge."""
        return self.entry.probabilities

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of one step."""
        return {
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "label": self.label,
            "probabilities": dict(self.probabilities) if self.probabilities else None,
            "level_dbfs": self.level_dbfs,
            "silent": self.silent,
            "modalities": list(self.modalities),
            "model": self.model,
            "box": None if self.box is None else asdict(self.box),
        }


class LiveBuffer:
    """Buffer of live sound and pictures; returns a window for each complete step.

    Args:
        steps: of a window at most.
    """

    def __init__(self, *, steps: int = LISTEN_STEPS) -> None:
        self._most = steps
        self._samples: Samples = np.zeros(0, np.float32)
        self._start = 0  # step with which the kept samples begin
        self._done = 0  # steps that were given
        self._frames: list[LiveFrame] = []

    @property
    def time_s(self) -> float:
        """Seconds of sound so far."""
        return self._start * STEP_S + len(self._samples) / STEP_SAMPLES * STEP_S

    def add_frame(self, image: Image | bytes) -> None:
        """Keep a picture; its time is the end of the sound so far."""
        within = [f for f in self._frames if f.time_s > self.time_s - STEP_S]
        if len(within) < _MOST_FRAMES:
            self._frames.append(LiveFrame(self.time_s, image))

    def push(self, samples: Samples) -> list[LiveWindow]:
        """Take samples ``[n]`` at 16 kHz; return a window for each step that they completed."""
        self._samples = np.concatenate([self._samples, samples])
        windows = []
        while (self._done + 1 - self._start) * STEP_SAMPLES <= len(self._samples):
            self._done += 1
            surplus = self._done - self._start - self._most
            if surplus > 0:
                self._samples = self._samples[surplus * STEP_SAMPLES :]
                self._start += surplus
            self._frames = [f for f in self._frames if f.time_s >= self._start * STEP_S]
            end_s = self._done * STEP_S
            windows.append(
                LiveWindow(
                    self._start * STEP_S,
                    self._samples[: (self._done - self._start) * STEP_SAMPLES],
                    tuple(f for f in self._frames if f.time_s <= end_s),
                )
            )
        return windows

    def keep_detections(self, frames: Sequence[LiveFrame]) -> None:
        """Keep the detected faces of a window's pictures for the next windows."""
        known = {frame.time_s: frame.detections for frame in frames}
        self._frames = [
            replace(f, detections=known.get(f.time_s, f.detections)) for f in self._frames
        ]


def predict_live(predictor: Predictor, window: LiveWindow) -> LiveStep:
    """Classify a window with the rules for a clip, and return the prediction of its last step."""
    from avser.inference.classifier import Request
    from avser.media.clip import LoadedClip
    from avser.media.faces import FaceCollector, MtcnnDetector
    from avser.media.reader import Frame

    request = Request()
    looks = predictor.looks_for_faces(request) and bool(window.frames)
    frames: list[LiveFrame] = []
    with LoadedClip() as clip:
        clip.sound.add(window.samples)
        clip.has_audio = True
        clip.duration_s = len(window.samples) / STEP_SAMPLES * STEP_S
        if looks:
            if predictor.detector is None:
                predictor.detector = MtcnnDetector()
            known = _KnownFaces()
            collector = FaceCollector(detector=known)
            clip.resources.callback(collector.close)
            for frame in window.frames:
                image = _decoded(frame.image)
                if image is None:
                    continue
                if frame.detections is None:
                    frame = replace(frame, detections=tuple(predictor.detector(image)))
                known.detections = list(frame.detections or ())
                collector.add(Frame(time_s=frame.time_s - window.start_s, image=image))
                frames.append(frame)
            clip.has_video = True
            clip.faces = collector.finish()
        (prediction,) = predictor.predict([clip], request)
    return _last_step(window, prediction, tuple(frames))


class _KnownFaces:
    """A face detector that returns given results."""

    def __init__(self) -> None:
        self.detections: list[Detection] = []

    def __call__(self, image: Image) -> list[Detection]:
        return self.detections


def _decoded(image: Image | bytes) -> Image | None:
    """The picture, at most as high as faces are looked for in; None where it can't be decoded."""
    import cv2

    from avser.media.faces import DETECT_HEIGHT

    if isinstance(image, bytes):
        decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            return None
        image = np.ascontiguousarray(decoded[..., ::-1])
    height, width = image.shape[:2]
    if height > DETECT_HEIGHT:
        size = (max(1, round(width * DETECT_HEIGHT / height)), DETECT_HEIGHT)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image


def _last_step(
    window: LiveWindow, prediction: Prediction, frames: tuple[LiveFrame, ...]
) -> LiveStep:
    start_s = window.step_start_s
    level = level_dbfs(window.samples[-STEP_SAMPLES:])
    steps = len(window.samples) // STEP_SAMPLES
    entry = prediction.timeline[steps - 1] if len(prediction.timeline) >= steps else None
    recent = [b for b in prediction.boxes if b.time_s + window.start_s >= start_s - STEP_S]
    return LiveStep(
        entry=TimelineEntry(
            start_s=start_s,
            end_s=start_s + STEP_S,
            label=entry.label if entry else None,
            probabilities=entry.probabilities if entry else None,
        ),
        level_dbfs=round(level, 1),
        silent=level <= SILENCE_DBFS,
        modalities=prediction.modalities,
        model=prediction.model,
        box=recent[-1] if recent else None,
        frames=frames,
    )
