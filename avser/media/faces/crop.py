"""Faces cut out alike: upright, of one size, framed as in FER2013."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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

    matrix = _placed(np.asarray(landmarks, np.float64), box, size)
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


def _placed(landmarks: NDArray[np.float64], box: Sequence[float], size: int) -> NDArray[np.float64]:
    """The similarity ``[2, 3]`` from places in the crop to places in the picture, in pixels."""
    x, y, w, h = (float(value) for value in box)
    left, right = landmarks[0], landmarks[1]
    apart = float(np.hypot(*(right - left))) / max(h, 1.0)
    if right[0] > left[0] and _PLAUSIBLE[0] <= apart <= _PLAUSIBLE[1]:
        across = (right - left) / (EYES_APART * size)  # one pixel of the crop, in the picture
        anchor, place = (left + right) / 2, EYES
    else:
        across = np.array([max(h, 1.0) / (BOX_HEIGHT * size), 0.0])
        anchor, place = np.array([x + w / 2, y + h / 2]), BOX_CENTRE
    turn = np.array([[across[0], -across[1]], [across[1], across[0]]])
    return np.column_stack([turn, anchor - turn @ (np.array(place) * size)])
