"""Tracks of the people in a video, and the store of their face crops."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError

Image = NDArray[np.uint8]

_IN_MEMORY = 2**25  # bytes of crops (870 of 112 pixels) before the disk is used


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
        speaks: whether the lips move while somebody is heard; None where that is unknown.
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
        found: frames that show the main person's face.
        tracks: the people, main person first, the others by frames times usual size. The main
            person is who speaks, where somebody's lips move with the sound, and else who is seen
            longest and largest; faces that do not change count less.
        reason: what is missing, in words; None where every frame shows the main person.
    """

    sampled: int
    found: int
    tracks: tuple[FaceTrack, ...]
    reason: str | None

    @property
    def main(self) -> FaceTrack | None:
        """The main person."""
        return self.tracks[0] if self.tracks else None
