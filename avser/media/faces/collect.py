"""Collection of the faces in sampled frames: detection, tracking, alignment, main person.

Faces are cut out alike: upright, of one size, framed as in FER2013.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.media.faces.detect import MtcnnDetector
from avser.media.faces.detection import Box, Detection, FaceDetector
from avser.media.faces.follow import SURE, VideoFaceDetector
from avser.media.faces.motion import FaceMotion, SoundLevels, lip_movement, main_person
from avser.media.faces.tracker import Tracker, appearance_of
from avser.types import STEP_S

if TYPE_CHECKING:
    from avser.media.decoders import Frame

Image = NDArray[np.uint8]

SIZE = 112

# Where a face lies in a crop, as shares of its side: median of MTCNN landmarks and boxes on
# FER2013 (536 faces of its validation part, enlarged to 200 pixels with 60 of padding; left and
# right averaged). The face network is trained on these pictures as they are, so crops of videos
# get their framing.
EYES = (0.500, 0.390)  # the middle between them
EYES_APART = 0.374
BOX_CENTRE = (0.500, 0.512)
BOX_HEIGHT = 1.036

# Distance between the eyes, in heights of the box: .354 in the median of FER2013, a tenth is
# below the first and 1 % above .414. Outside, the head is turned away or a landmark is wrong, and
# a crop by the eyes would magnify a part of the face. (The distance from eyes to mouth would be a
# second measure, but crops would then breathe with a talking mouth: measured, and left.)
_PLAUSIBLE = (0.31, 0.45)

FACES_PER_STEP = 2  # one every quarter of a second: expressions last half a second and more
DETECT_HEIGHT = 360  # pixels; a third of the time of 720, and a talking head is large enough

_EARLY_S = 0.0015  # a frame may be given 1 ms before the time that was asked for
_LEAST_FRAMES = 3  # seen less often, a face must be a sure one
_SHORT = 4  # frames; fewer are not enough for a frequent face
_IN_MEMORY = 2**25  # bytes of crops (870 of 112 pixels) before the disk is used


def sample_times(per_step: int = FACES_PER_STEP) -> Iterator[float]:
    """Times in seconds at which to look for faces, ascending, without end.

    Slot n of step t is looked at in the middle of the n-th of ``per_step`` equal parts:
    ``(t + (n + .5) / per_step) * STEP_S``.

    Raises:
        ConfigError: ``per_step`` is below 1.
    """
    _check_per_step(per_step)
    return ((place + 0.5) / per_step * STEP_S for place in count())


def align(
    image: Image,
    landmarks: NDArray[np.float64],
    box: Sequence[float],
    *,
    size: int = SIZE,
) -> Image:
    """Cut out one face, turned upright by its eyes, as ``[size, size, 3]``.

    Eyes come together where the head is turned away: such a face is cut out by its box, unturned.
    Beyond the picture its edge is repeated.

    Args:
        image: ``[H, W, 3]``.
        landmarks: ``[5, 2]`` (x, y) in pixels, as `Detection` has them.
        box: (x, y, w, h) in pixels.
        size: side of the crop in pixels.
    """
    import cv2

    # the similarity [2, 3] from places in the crop to places in the picture, in pixels
    x, y, w, h = (float(value) for value in box)
    left, right = np.asarray(landmarks[:2], np.float64)
    apart = float(np.hypot(*(right - left))) / max(h, 1.0)
    if right[0] > left[0] and _PLAUSIBLE[0] <= apart <= _PLAUSIBLE[1]:
        across = (right - left) / (EYES_APART * size)  # one pixel of the crop, in the picture
        anchor, place = (left + right) / 2, EYES
    else:
        across = np.array([max(h, 1.0) / (BOX_HEIGHT * size), 0.0])
        anchor, place = np.array([x + w / 2, y + h / 2]), BOX_CENTRE
    turn = np.array([[across[0], -across[1]], [across[1], across[0]]])
    matrix = np.column_stack([turn, anchor - turn @ (np.array(place) * size)])
    # a large face is drawn larger and then shrunk by areas, or fine lines would flicker
    more = max(1, round(float(np.hypot(*matrix[:, 0]))))
    matrix[:, :2] /= more
    # pixel centres lie at whole numbers: pixel p of the crop is at p + 1/2 from its edge
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    crop = cv2.warpAffine(
        np.ascontiguousarray(image),
        matrix,
        (size * more, size * more),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if more > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


class CropStore:
    """Crops of one size, written one after another and read by number.

    The file has no name, so that it is gone when it is closed, also after a kill.

    Args:
        size: side of the crops in pixels.
        folder: where the file is made; None is the system's folder of temporary files.
    """

    def __init__(self, *, size: int, folder: Path | None) -> None:
        self.shape = (size, size, 3)
        self.count = 0
        where = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=where, prefix="avser-faces-")

    def append(self, crop: Image) -> int:
        """Write a crop and give its number.

        Raises:
            ConfigError: the disk is full, or the folder can't be written.
        """
        try:
            self._file.seek(0, 2)
            self._file.write(crop.tobytes())
        except OSError as error:
            raise ConfigError(
                f"Bad folder of temporary files: face crops can't be written ({error.strerror}); "
                "name another with spool= or the variable TMPDIR."
            ) from error
        self.count += 1
        return self.count - 1

    def read(self, numbers: NDArray[np.int64]) -> Image:
        """Crops ``[n, size, size, 3]`` of those numbers.

        Raises:
            ConfigError: the spool is closed.
        """
        if self._file.closed:
            raise ConfigError(
                "Bad face crops: their FaceCollector is closed; read them inside its with-block."
            )
        length = int(np.prod(self.shape))
        crops = np.empty((len(numbers), *self.shape), np.uint8)
        for index, number in enumerate(numbers.tolist()):
            self._file.seek(number * length)
            crops[index] = np.frombuffer(self._file.read(length), np.uint8).reshape(self.shape)
        return crops

    def close(self) -> None:
        """Remove the file; calling it again does nothing."""
        self._file.close()


class Crops:
    """The crops of one face, ``[n, size, size, 3]`` uint8, read when they are asked for.

    Indexing and slicing give new arrays, as does ``np.asarray``.

    Args:
        spool: where they lie.
        numbers: ``[n]`` of the crops there.
    """

    def __init__(self, spool: CropStore, *, numbers: NDArray[np.int64]) -> None:
        self._spool, self._numbers = spool, numbers
        self.shape = (len(numbers), *spool.shape)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int | slice | NDArray[Any]) -> Image:
        if isinstance(index, int):
            crop: Image = self._spool.read(self._numbers[[index]])[0]
            return crop
        return self._spool.read(self._numbers[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: ANN401
        if copy is False:
            raise ValueError("Bad copy False: crops lie in a file, so that reading makes an array.")
        crops: NDArray[Any] = self._spool.read(self._numbers)
        return crops if dtype is None else crops.astype(dtype, copy=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceTrack:
    """One person's face through a video; n sampled frames show it.

    Attributes:
        face_id: 0 is the main person.
        times_s: ``[n]`` of the frames, in seconds.
        boxes: ``[n, 4]`` (x, y, w, h) as shares of the picture's width and height.
        scores: ``[n]`` of the detector, 0..1.
        places: ``[n]`` int64, ascending: step * per_step + slot of each frame.
        crops: ``[n, size, size, 3]`` uint8, read when they are asked for.
        per_step: N, slots per step.
        still: whether the face does not change, as a photograph does not.
        speaks: whether the lips move while there is speech; None if unknown.
    """

    face_id: int
    times_s: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    places: NDArray[np.int64]
    crops: Crops
    per_step: int
    still: bool = False
    speaks: bool | None = None

    def grid(self, start_step: int, steps: int) -> tuple[Image, NDArray[np.bool_]]:
        """The face on the grid of steps: crops where it was seen, black where not.

        Args:
            start_step: first step.
            steps: T; steps beyond the end are empty.

        Returns:
            ``[T, N, 3, size, size]`` uint8, and ``[T, N]``, True where there is a face.
        """
        size, slots = self.crops.shape[1], steps * self.per_step
        faces = np.zeros((slots, size, size, 3), np.uint8)
        mask = np.zeros(slots, np.bool_)
        first = start_step * self.per_step
        low, high = np.searchsorted(self.places, [first, first + slots])
        slot = self.places[low:high] - first
        faces[slot], mask[slot] = self.crops[low:high], True
        from einops import rearrange

        grid = rearrange(faces, "(t n) h w c -> t n c h w", n=self.per_step)
        return np.ascontiguousarray(grid), rearrange(mask, "(t n) -> t n", n=self.per_step)


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Everybody seen in a video.

    Attributes:
        sampled: frames that were looked at.
        detected: frames that show the main person's face.
        tracks: the people, main person first, the others by frames times usual size. The main
            person is who speaks, where somebody's lips move with the sound, and else who is seen
            longest and largest; faces that do not change count less.
        reason: what is missing, in words; None where every frame shows the main person.
        main: the main person, the first of the tracks; None without any.
    """

    sampled: int
    detected: int
    tracks: tuple[FaceTrack, ...]
    reason: str | None
    main: FaceTrack | None = None


@dataclass
class _Sightings:
    times_s: list[float] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # of the crops in the spool
    lips: list[float] = field(default_factory=list)  # movement since the frame before
    crop: Image | None = None  # the last one

    @property
    def weight(self) -> float:
        """Weight of a person: number of frames times the median share of the picture."""
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
        # the last slot whose time the frame reaches; a slow video leaves slots empty
        slots = (frame.time_s + _EARLY_S) / STEP_S * self._per_step
        place = max(0, int(np.floor(slots - 0.5)))
        for person, detection, crop, number in zip(people, detections, crops, numbers, strict=True):
            seen = self._people.setdefault(person, _Sightings())
            if seen.crop is not None:  # movement in one held picture is unknown
                held = seen.numbers[-1] == number
                seen.lips.append(np.nan if held else lip_movement(seen.crop, crop))
            seen.crop = crop
            seen.times_s.append(frame.time_s)
            x, y, w, h = detection.box  # kept as shares of the picture, cut at its edges
            left, right = (min(max(v / width, 0.0), 1.0) for v in (x, x + w))
            top, bottom = (min(max(v / height, 0.0), 1.0) for v in (y, y + h))
            seen.boxes.append((left, top, right - left, bottom - top))
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
        least = 1 if self._sampled <= _SHORT else _LEAST_FRAMES
        real = [
            seen
            for seen in self._people.values()
            if len(seen.scores) >= least or max(seen.scores) >= SURE
        ]
        real.sort(key=lambda seen: -seen.weight)  # stable: of equals, who came first
        motions = [
            FaceMotion(np.array(s.times_s[:-1]), np.array(s.times_s[1:]), np.array(s.lips))
            for s in real
        ]
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
        return Faces(
            sampled=self._sampled,
            detected=with_face,
            tracks=tracks,
            reason=reason,
            main=tracks[0] if tracks else None,
        )

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
