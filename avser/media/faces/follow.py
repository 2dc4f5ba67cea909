"""Face detection in successive frames: whole pictures are searched only where that is needed.

Between two searches each known face is looked for around its last place, by the same detector. The
whole picture is searched again where a face is lost or unsure, where the picture changed beside
the known faces since the last search, and every two seconds. So a talking head costs a search in
eight frames, and a moving scene one in every frame, as without this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avser.media.faces.detection import Box, Detection, FaceDetector, LocalFaceDetector

if TYPE_CHECKING:
    from avser.media.decoders import Frame

Image = NDArray[np.uint8]
Values = NDArray[np.float32]

SEARCH_EVERY_S = 2.0  # a new face is missed for at most this long
SURE = 0.95  # score of nearly all real faces, and of few patterns that look like one

# A cell is a twentieth of the picture's height: the smallest face covers one whole cell at least.
_CELLS = (18, 32)
_CHANGED = 12.0  # grey levels of a cell's mean; noise and coding stay under 3
_BESIDE = 0.5  # how far around a face the picture may change, in sizes of the face
_SAME_FACE = 0.3  # least overlap of a face with its last box
_TWO_AS_ONE = 0.4  # overlap of two faces that may be one


class VideoFaceDetector:
    """Detects the faces in frames of one video, which come in order of time.

    Args:
        detector: one without `LocalFaceDetector.near` searches every picture.

    Attributes:
        searches: whole pictures searched so far.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self.searches = 0
        self._known: list[Detection] = []
        self._searched_s = -np.inf
        self._searched = np.zeros((0, 0), np.float32)  # cells of the picture searched last
        self._shape: tuple[int, ...] = ()

    def __call__(self, frame: Frame) -> list[Detection]:
        """Detect the faces in the next frame."""
        detections = self._follow(frame) if isinstance(self._detector, LocalFaceDetector) else None
        if detections is None:
            detections = self._detector(frame.image)
            self.searches += 1
            self._searched_s, self._shape = frame.time_s, frame.image.shape
            self._searched = _cells(frame.image)
        self._known = detections
        return detections

    def _follow(self, frame: Frame) -> list[Detection] | None:
        """Known faces in the next frame; None where the whole picture is to be searched."""
        late = frame.time_s - self._searched_s >= SEARCH_EVERY_S
        if late or not self._known or frame.image.shape != self._shape:
            return None
        boxes = [known.box for known in self._known]
        changed = np.abs(_cells(frame.image) - self._searched) > _CHANGED
        if (changed & ~_around(boxes, self._shape)).any():
            return None
        detections: list[Detection] = []
        for box in boxes:
            face = self._again(frame.image, box)
            if face is None or any(_overlap(face.box, d.box) > _TWO_AS_ONE for d in detections):
                return None
            detections.append(face)
        return detections

    def _again(self, image: Image, box: Box) -> Detection | None:
        """A known face in another picture; None where it is not surely there."""
        assert isinstance(self._detector, LocalFaceDetector)
        near = self._detector.near(image, box)
        face = max(near, key=lambda detection: _overlap(detection.box, box), default=None)
        if face is None or face.score < SURE or _overlap(face.box, box) < _SAME_FACE:
            return None
        return face


def _cells(image: Image) -> Values:
    """Mean grey level of each cell of a picture."""
    import cv2

    rows, columns = _CELLS
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(small.mean(axis=2), np.float32)


def _around(boxes: list[Box], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Cells that lie on known faces or beside them."""
    rows, columns = _CELLS
    y, x = shape[0] / rows, shape[1] / columns  # of a cell, in pixels
    mask = np.zeros(_CELLS, np.bool_)
    for left, top, w, h in boxes:
        more = _BESIDE * max(w, h)
        first, last = int(max(0.0, top - more) // y), int(np.ceil((top + h + more) / y))
        start, end = int(max(0.0, left - more) // x), int(np.ceil((left + w + more) / x))
        mask[first : max(0, last), start : max(0, end)] = True
    return mask


def _overlap(a: Box, b: Box) -> float:
    """Intersection of two boxes over their union."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both / max(a[2] * a[3] + b[2] * b[3] - both, 1e-9)
