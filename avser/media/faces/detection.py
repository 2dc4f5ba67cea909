"""A detected face, and what a face detector is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Detection:
    """One face in one picture.

    Attributes:
        box: (x, y, w, h) in pixels of the picture; may reach over its edges.
        score: how sure the detector is, 0..1.
        landmarks: ``[5, 2]`` (x, y) in pixels: the eye on the left of the picture, the eye on the
            right, nose, corner of the mouth on the left, on the right.
    """

    box: Box
    score: float
    landmarks: NDArray[np.float64]


class FaceDetector(Protocol):
    """Anything that finds faces.

    A detector may have a text ``settings`` that names all that its results depend on: prepared
    faces are then found again when it changes.
    """

    def __call__(self, image: Image) -> list[Detection]:
        """Find the faces of an upright RGB picture ``[H, W, 3]``; none is an empty list."""
        ...


@runtime_checkable
class LocalFaceDetector(FaceDetector, Protocol):
    """A detector that can also search around a known face, at a fraction of the time."""

    def near(self, image: Image, box: Box) -> list[Detection]:
        """Find faces of about the size of a known one around its box, largest first.

        Args:
            image: ``[H, W, 3]``, upright and RGB.
            box: (x, y, w, h) of the known face in pixels.
        """
        ...
