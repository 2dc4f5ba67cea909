"""Face detectors for single pictures: MTCNN and YuNet."""

from __future__ import annotations

import copy
import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.media.faces.cascade import (
    MIN_FACE,
    NETWORKS,
    THRESHOLDS,
    MtcnnCascade,
    mtcnn_settings,
)
from avser.media.faces.detection import Detection, FaceDetector

if TYPE_CHECKING:
    import torch
    from torch import nn

Image = NDArray[np.uint8]
Values = NDArray[np.float32]

_YUNET = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"


def detector_settings(detector: FaceDetector | None) -> str:
    """All that a detector's results depend on, in one text; None is MTCNN as it is by default."""
    if detector is None:
        return mtcnn_settings(MIN_FACE, THRESHOLDS)
    settings = getattr(detector, "settings", "")
    kind = type(detector)
    return f"{settings}" if settings else f"{kind.__module__}.{kind.__qualname__}"


class MtcnnDetector(MtcnnCascade):
    """MTCNN with the weights inside facenet-pytorch; nothing is downloaded.

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

        # their pooling is several times faster over channels
        made = MTCNN(keep_all=True).eval().requires_grad_(False)
        made = made.to(device=torch.device(device), memory_format=torch.channels_last)
        self._nets: dict[str, nn.Module] = {name: getattr(made, name) for name in NETWORKS}
        networks = {name: partial(_run, net, device) for name, net in self._nets.items()}
        super().__init__(networks, min_face=min_face, thresholds=thresholds)
        self.settings = mtcnn_settings(min_face, thresholds)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Copies of its three networks, for export."""
        return {name: copy.deepcopy(net) for name, net in self._nets.items()}


def _run(net: nn.Module, device: str | torch.device, pictures: Values) -> tuple[Values, ...]:
    import torch

    with torch.inference_mode():
        outputs = net(torch.from_numpy(pictures).to(device))
    return tuple(output.cpu().numpy() for output in outputs)


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
