"""Collection of the faces in sampled frames: detection, tracking, alignment, main person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.media.faces.crop import SIZE, align
from avser.media.faces.detect import MtcnnDetector
from avser.media.faces.detection import Box, Detection, FaceDetector
from avser.media.faces.follow import SURE, VideoFaceDetector
from avser.media.faces.motion import FaceMotion, SoundLevels, lip_movement, main_person
from avser.media.faces.tracker import Tracker, appearance_of
from avser.media.faces.tracks import Crops, CropStore, Faces, FaceTrack
from avser.types import STEP_S

if TYPE_CHECKING:
    from avser.media.decoders import Frame

Image = NDArray[np.uint8]

FACES_PER_STEP = 2  # one every quarter of a second: expressions last half a second and more
DETECT_HEIGHT = 360  # pixels; a third of the time of 720, and a talking head is large enough

_EARLY_S = 0.0015  # a frame may be given 1 ms before the time that was asked for
_LEAST_FRAMES = 3  # seen less often, a face must be a sure one
_SHORT = 4  # in so few frames nobody can be seen often


def sample_times(per_step: int = FACES_PER_STEP) -> Iterator[float]:
    """Times in seconds at which to look for faces, ascending, without end.

    Slot n of step t is looked at in the middle of the n-th of ``per_step`` equal parts:
    ``(t + (n + .5) / per_step) * STEP_S``.

    Raises:
        ConfigError: ``per_step`` is below 1.
    """
    _check_per_step(per_step)
    return ((place + 0.5) / per_step * STEP_S for place in count())


@dataclass
class _Sightings:
    times_s: list[float] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # of the crops in the spool
    lips: list[float] = field(default_factory=list)  # movement since the frame before
    crop: Image | None = None  # the last one

    def move(self, crop: Image, *, held: bool) -> None:
        """Record the movement since the last crop; that of one held picture is unknown."""
        if self.crop is not None:
            self.lips.append(np.nan if held else lip_movement(self.crop, crop))
        self.crop = crop

    @property
    def motion(self) -> FaceMotion:
        """Movement between the frames that show the face."""
        times = np.array(self.times_s)
        return FaceMotion(times[:-1], times[1:], np.array(self.lips))

    @property
    def weight(self) -> float:
        """How much of a main person somebody is: frames times the usual share of the picture."""
        boxes = np.array(self.boxes)
        return len(boxes) * float(np.median(boxes[:, 2] * boxes[:, 3]))


class FaceCollector:
    """Collects the faces of a video from its sampled frames, in flat memory.

    Crops of everybody are kept in a temporary file, because the main person is known only at the
    end. Close the collector, or use it in ``with``, after the crops are read.

    Args:
        detector: None is `MtcnnDetector`, loaded when the first picture is looked at.
        per_step: N, slots per step; as given to `sample_times`.
        size: side of the crops in pixels.
        spool: folder of the temporary file; None is the system's.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        *,
        detector: FaceDetector | None = None,
        per_step: int = FACES_PER_STEP,
        size: int = SIZE,
        spool: Path | None = None,
    ) -> None:
        _check_per_step(per_step)
        if size < 1:
            raise ConfigError(f"Bad size {size} of face crops: expected at least 1 pixel; try 112.")
        if spool is not None and not spool.is_dir():
            raise ConfigError(f"Bad spool '{spool}': expected a folder; make it first.")
        self._per_step, self._size = per_step, size
        self._detect = None if detector is None else VideoFaceDetector(detector)
        self._spool = CropStore(size=size, folder=spool)
        self._tracker = Tracker()
        self._people: dict[int, _Sightings] = {}
        self._sampled = 0
        self._last: tuple[Image, list[Detection], list[Image], list[int]] | None = None

    def add(self, frame: Frame) -> None:
        """Detect and track the faces of one sampled frame; frames come in order of time.

        Raises:
            ConfigError: there is no room for the crops.
        """
        self._sampled += 1
        detections, crops, numbers = self._faces_of(frame)
        looks = [appearance_of(crop) for crop in crops]
        people = self._tracker.update(frame.time_s, detections=detections, looks=looks)
        height, width = frame.image.shape[:2]
        place = self._place(frame.time_s)
        for person, detection, crop, number in zip(people, detections, crops, numbers, strict=True):
            seen = self._people.setdefault(person, _Sightings())
            seen.move(crop, held=seen.numbers[-1:] == [number])
            seen.times_s.append(frame.time_s)
            seen.boxes.append(_shares(detection.box, width, height))
            seen.scores.append(detection.score)
            seen.places.append(place)
            seen.numbers.append(number)

    def _faces_of(self, frame: Frame) -> tuple[list[Detection], list[Image], list[int]]:
        """Faces of a frame, their crops and the crops' numbers; of a held one, the same again."""
        image = frame.image
        if self._last is None or self._last[0] is not image:
            if self._detect is None:
                self._detect = VideoFaceDetector(MtcnnDetector())
            detections = self._detect(frame)
            crops = [align(image, d.landmarks, d.box, size=self._size) for d in detections]
            numbers = [self._spool.append(crop) for crop in crops]
            self._last = (image, detections, crops, numbers)
        return self._last[1:]

    def finish(self, sound: SoundLevels | None = None) -> Faces:
        """Return the people in the frames so far; crops can be read until the collector closes.

        Args:
            sound: of the same clip, to choose the person who speaks; None knows nothing of it.
        """
        real = [seen for seen in self._people.values() if self._is_real(seen)]
        real.sort(key=lambda seen: -seen.weight)  # stable: of equals, who came first
        motions = [seen.motion for seen in real]
        main = main_person([seen.weight for seen in real], motions, sound)
        if main:
            real.insert(0, real.pop(main))
            motions.insert(0, motions.pop(main))
        with_face = len(real[0].times_s) if real else 0
        reason = None
        if not self._sampled:
            reason = "no frame could be sampled"
        elif not with_face:
            reason = f"no face found in {self._sampled} of {self._sampled} sampled frames"
        elif with_face < self._sampled:
            reason = f"face found in {with_face} of {self._sampled} sampled frames"
        tracks = tuple(
            FaceTrack(
                face_id=index,
                times_s=np.array(seen.times_s),
                boxes=np.array(seen.boxes),
                scores=np.array(seen.scores),
                places=np.array(seen.places, np.int64),
                crops=Crops(self._spool, numbers=np.array(seen.numbers, np.int64)),
                per_step=self._per_step,
                still=motion.still,
                speaks=motion.speaks(sound),
            )
            for index, (seen, motion) in enumerate(zip(real, motions, strict=True))
        )
        return Faces(sampled=self._sampled, found=with_face, tracks=tracks, reason=reason)

    def _place(self, time_s: float) -> int:
        """The last slot whose time the frame reaches; a slow video leaves slots empty."""
        return max(0, int(np.floor((time_s + _EARLY_S) / STEP_S * self._per_step - 0.5)))

    def _is_real(self, seen: _Sightings) -> bool:
        often = len(seen.scores) >= _LEAST_FRAMES or self._sampled <= _SHORT
        return often or max(seen.scores) >= SURE

    def close(self) -> None:
        """Remove the temporary file; calling it again does nothing."""
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_per_step(per_step: int) -> None:
    if per_step < 1:
        raise ConfigError(f"Bad per_step {per_step}: expected at least 1 face a step; try 2.")


def _shares(box: Box, width: int, height: int) -> Box:
    """A box in pixels as shares of the picture, cut at its edges."""
    x, y, w, h = box
    left, right = (min(max(v / width, 0.0), 1.0) for v in (x, x + w))
    top, bottom = (min(max(v / height, 0.0), 1.0) for v in (y, y + h))
    return left, top, right - left, bottom - top
