"""Face detectors for single pictures: MTCNN and YuNet."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn

Image = NDArray[np.uint8]

# MTCNN's time grows with the square of 1 / this. A talking head is larger than a ninth of the
# picture: 80 pixels at 720p, 40 at 360p.
MIN_FACE = 0.11
THRESHOLDS = (0.6, 0.7, 0.7)
_LEAST_PIXELS = 20  # faces below are blurs; enlarging small pictures to find them costs time

_YUNET = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"


@dataclass(frozen=True, eq=False)
class Detection:
    """One face in one picture.

    Attributes:
        box: (x, y, w, h) in pixels of the picture; may reach over its edges.
        score: how sure the detector is, 0..1.
        landmarks: ``[5, 2]`` (x, y) in pixels: the eye on the left of the picture, the eye on the
            right, nose, corner of the mouth on the left, on the right.
    """

    box: tuple[float, float, float, float]
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


def detector_settings(detector: FaceDetector | None) -> str:
    """All that a detector's results depend on, in one text; None is MTCNN as it is by default."""
    if detector is None:
        return mtcnn_settings(MIN_FACE, THRESHOLDS)
    settings = getattr(detector, "settings", "")
    kind = type(detector)
    return f"{settings}" if settings else f"{kind.__module__}.{kind.__qualname__}"


def mtcnn_settings(min_face: float, thresholds: tuple[float, ...]) -> str:
    """All that the results of MTCNN depend on, in one text."""
    return f"mtcnn {min_face} {tuple(thresholds)}, at least {_LEAST_PIXELS} pixels"


def with_margin(image: Image, min_face: float) -> tuple[Image | None, int, float]:
    """A picture as MTCNN is given it.

    One candidate outside the picture spoils its whole batch with a shape error: a margin around
    the picture keeps candidates inside, and helps faces at the edge to be found.

    Args:
        image: ``[H, W, 3]``.
        min_face: height of the smallest face, as a share of the picture's height.

    Returns:
        The picture with a margin, or None where it has no room for a face; the margin and the
        height of the smallest face in pixels.
    """
    least = max(_LEAST_PIXELS, min_face * image.shape[0])
    margin = round(least / 2)
    if min(image.shape[:2]) < least:  # MTCNN would raise
        return None, margin, least
    sides = ((margin, margin), (margin, margin), (0, 0))
    return np.pad(image, sides, mode="edge"), margin, least


class MtcnnDetector:
    """MTCNN with the weights inside facenet-pytorch; nothing is downloaded.

    Zhang et al. 2016, "Joint Face Detection and Alignment Using Multi-task Cascaded Convolutional
    Networks".

    Args:
        min_face: height of the smallest face to look for, as a share of the picture's height.
        thresholds: of the scores of its three networks, 0..1.
        device: where it runs.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        *,
        min_face: float = MIN_FACE,
        thresholds: tuple[float, float, float] = THRESHOLDS,
        device: str | torch.device = "cpu",
    ) -> None:
        if not 0 < min_face <= 1:
            raise ConfigError(
                f"Bad min_face {min_face}: expected a share of the picture's height above 0, at "
                "most 1; try 0.11."
            )
        if not all(0 < threshold < 1 for threshold in thresholds):
            raise ConfigError(
                f"Bad thresholds {thresholds}: expected three between 0 and 1; try (.6, .7, .7)."
            )
        import torch
        from facenet_pytorch import MTCNN

        self.min_face = min_face
        self.settings = mtcnn_settings(min_face, thresholds)
        self._net = MTCNN(
            keep_all=True, thresholds=list(thresholds), device=torch.device(device)
        ).eval()
        # its pooling is several times faster over channels, its resizing over rows: see __call__
        self._net.to(memory_format=torch.channels_last)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Copies of its three networks, for export."""
        return {name: copy.deepcopy(getattr(self._net, name)) for name in ("pnet", "rnet", "onet")}

    def __call__(self, image: Image) -> list[Detection]:
        """Find the faces of an upright RGB picture ``[H, W, 3]``, largest first."""
        import torch
        from einops import rearrange

        framed, margin, least = with_margin(image, self.min_face)
        if framed is None:
            return []
        self._net.min_face_size = least
        planes = rearrange(torch.from_numpy(framed), "h w c -> c h w").float().contiguous()
        # the axes that it asks for, over memory that holds one channel after the other
        found = self._net.detect(rearrange(planes, "c h w -> 1 h w c"), landmarks=True)
        boxes, scores, points = (each[0] for each in found)
        if boxes is None:
            return []
        corners = np.asarray(boxes, np.float64) - margin  # [n, 4]: left, top, right, bottom
        marks = np.asarray(points, np.float64) - margin
        return [
            Detection((left, top, right - left, bottom - top), float(score), mark)
            for (left, top, right, bottom), score, mark in zip(
                corners.tolist(), scores, marks, strict=True
            )
        ]


class YuNetDetector:
    """YuNet (Wu et al. 2023) by OpenCV: faster than MTCNN; its model is a file of its own.

    Args:
        model: the ONNX file.
        min_score: faces below it are left out, 0..1.

    Raises:
        ConfigError: there is no such file, or OpenCV can't read it.
    """

    def __init__(self, model: str | Path, *, min_score: float = 0.7) -> None:
        if not Path(model).is_file():
            raise ConfigError(
                f"Bad YuNet model '{model}': there is no such file; get "
                f"face_detection_yunet_2023mar.onnx from {_YUNET}."
            )
        import cv2

        digest = hashlib.blake2b(Path(model).read_bytes(), digest_size=16).hexdigest()
        self.settings = f"yunet {digest} {min_score}"
        try:
            self._net = cv2.FaceDetectorYN.create(str(model), "", (320, 320), min_score)
        except cv2.error as error:
            raise ConfigError(
                f"Bad YuNet model '{model}': OpenCV can't read it; get "
                f"face_detection_yunet_2023mar.onnx from {_YUNET}."
            ) from error

    def __call__(self, image: Image) -> list[Detection]:
        """Find the faces of an upright RGB picture ``[H, W, 3]``, surest first."""
        height, width = image.shape[:2]
        self._net.setInputSize((width, height))
        _, rows = self._net.detect(np.ascontiguousarray(image[..., ::-1]))  # it takes BGR
        # rows [n, 15]: x, y, w, h, five points, score. YuNet names eyes and corners by the
        # person's own sides, right first, which is the left of the picture: MTCNN's order.
        return [
            Detection(
                (float(row[0]), float(row[1]), float(row[2]), float(row[3])),
                float(row[14]),
                np.asarray(row[4:14], np.float64).reshape(5, 2),
            )
            for row in (() if rows is None else rows)
        ]
