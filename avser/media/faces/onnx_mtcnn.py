"""MTCNN without torch: its three networks as ONNX files, and its cascade in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.media.faces.detect import MIN_FACE, THRESHOLDS, Detection, mtcnn_settings, with_margin

Image = NDArray[np.uint8]
Values = NDArray[np.float32]
# [n, 4]: left, top, right, bottom. Single precision and the order of operations are those of
# facenet-pytorch: boxes are cut to whole pixels, and rounding errors decide which.
Corners = NDArray[np.float32]

#: The networks that propose, refine and finish, as `avser.export.detector` names their files.
NETWORKS = ("pnet", "rnet", "onet")

_FACTOR = 0.709  # from one size of the picture to the next
_CELL, _STRIDE = 12, 2  # pixels that the first network sees, and between two of its places
_SAME_SIZE, _SAME = 0.5, 0.7  # overlap of boxes that are one face: at one size, and in all


class OnnxMtcnnDetector:
    """The same detector as `MtcnnDetector`, for programs without torch.

    Zhang et al. 2016. Boxes and landmarks are those of facenet-pytorch's cascade to a hundredth of
    a pixel, so that face crops, and with them predictions, stay the same.

    Args:
        folder: with the files that `avser.export.detector.save_detector` wrote.
        min_face: height of the smallest face to look for, as a share of the picture's height.
        thresholds: of the scores of its three networks, 0..1.
        threads: of the arithmetic.

    Raises:
        ConfigError: a file is missing or no ONNX file.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        min_face: float = MIN_FACE,
        thresholds: tuple[float, float, float] = THRESHOLDS,
        threads: int = 1,
    ) -> None:
        self.min_face, self._thresholds = min_face, thresholds
        self.settings = f"{mtcnn_settings(min_face, thresholds)}, ONNX"
        sessions = (_session(Path(folder) / f"{name}.onnx", threads) for name in NETWORKS)
        self._propose, self._refine, self._finish = sessions

    def __call__(self, image: Image) -> list[Detection]:
        """Find the faces of an upright RGB picture ``[H, W, 3]``, largest first."""
        framed, margin, least = with_margin(image, self.min_face)
        if framed is None:
            return []
        sums = _AreaSums(framed)
        boxes = self._refined(sums, self._proposed(sums, least))
        boxes, scores, points = self._finished(sums, boxes)
        order = np.argsort((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))[::-1]
        return [
            Detection((left, top, right - left, bottom - top), float(score), mark)
            for (left, top, right, bottom), score, mark in zip(
                (boxes[order].astype(np.float64) - margin).tolist(),
                scores[order],
                points[order].astype(np.float64) - margin,
                strict=True,
            )
        ]

    def _proposed(self, sums: _AreaSums, least: float) -> Corners:
        """Squares that may be faces, from the picture at many sizes."""
        height, width = sums.shape
        candidates, scores = [np.zeros((0, 8), np.float32)], [np.zeros(0, np.float32)]
        for scale in _scales(min(height, width), least):
            small = sums.resized(int(height * scale + 1), int(width * scale + 1))
            shifts, likely = self._propose.run(None, {"x": small})
            rows, columns = np.nonzero(likely[0, 1] >= self._thresholds[0])
            places = np.stack([columns, rows, columns, rows], axis=1) * _STRIDE + 1
            places[:, 2:] += _CELL - 1
            boxes = np.floor(places.astype(np.float32) / np.float32(scale))
            score = likely[0, 1, rows, columns]
            kept = _suppress(boxes, score, most=_SAME_SIZE)
            candidates.append(np.hstack([boxes, shifts[0][:, rows, columns].T])[kept])
            scores.append(score[kept])
        joined, score = np.concatenate(candidates), np.concatenate(scores)
        joined = joined[_suppress(joined[:, :4], score, most=_SAME)]
        boxes, shifts = joined[:, :4], joined[:, 4:]
        size = boxes[:, 2:] - boxes[:, :2]
        return _square(boxes + shifts * np.hstack([size, size]))

    def _refined(self, sums: _AreaSums, boxes: Corners) -> Corners:
        boxes, crops = sums.crops(boxes, 24)
        if not len(boxes):
            return boxes
        shifts, likely = self._refine.run(None, {"x": crops})
        sure = likely[:, 1] > self._thresholds[1]
        boxes, shifts, score = boxes[sure], shifts[sure], likely[sure, 1]
        kept = _suppress(boxes, score, most=_SAME)
        return _square(_shifted(boxes[kept], shifts[kept]))

    def _finished(self, sums: _AreaSums, boxes: Corners) -> tuple[Corners, Values, Corners]:
        """Boxes, scores and landmarks ``[n, 5, 2]`` of the faces."""
        boxes, crops = sums.crops(boxes, 48)
        if not len(boxes):
            return boxes, np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
        shifts, places, likely = self._finish.run(None, {"x": crops})
        sure = likely[:, 1] > self._thresholds[2]
        boxes, shifts, score = boxes[sure], shifts[sure], likely[sure, 1]
        size = boxes[:, 2:] - boxes[:, :2] + 1
        marks = np.stack([places[sure, :5], places[sure, 5:]], axis=2)
        points = marks * size[:, None] + boxes[:, None, :2] - 1
        boxes = _shifted(boxes, shifts)
        kept = _suppress(boxes, score, most=_SAME, of_smaller=True)
        return boxes[kept], score[kept], points[kept]


class _AreaSums:
    """Sums over all rectangles of a picture, by which any part is resized by areas at once.

    Args:
        image: ``[H, W, 3]``.
    """

    def __init__(self, image: Image) -> None:
        import cv2

        self.shape = image.shape[:2]
        self._sums = cv2.integral(image, sdepth=cv2.CV_64F)  # whole numbers: exact

    def resized(self, rows: int, columns: int) -> Values:
        """The picture as ``[1, 3, rows, columns]``, about -1..1."""
        height, width = self.shape
        return self._areas(np.array([[0, 0, width, height]]), rows, columns)

    def crops(self, boxes: Corners, side: int) -> tuple[Corners, Values]:
        """Boxes that lie in the picture, and what they hold as ``[n, 3, side, side]``."""
        height, width = self.shape
        whole = np.trunc(boxes).astype(np.int64)
        left, top = (np.maximum(whole[:, i], 1) - 1 for i in (0, 1))  # they count from 1
        right, bottom = np.minimum(whole[:, 2], width), np.minimum(whole[:, 3], height)
        inside = (right > left) & (bottom > top)
        parts = np.stack([left, top, right, bottom], axis=1)[inside]
        return boxes[inside], self._areas(parts, side, side)

    def _areas(self, parts: NDArray[np.int64], rows: int, columns: int) -> Values:
        top, bottom = _edges(parts[:, 1], parts[:, 3], rows)
        left, right = _edges(parts[:, 0], parts[:, 2], columns)
        sums = [
            self._sums[y[:, :, None], x[:, None, :]]
            for y, x in ((bottom, right), (top, right), (bottom, left), (top, left))
        ]
        area = (bottom - top)[:, :, None] * (right - left)[:, None, :]
        mean = (sums[0] - sums[1] - sums[2] + sums[3]) / area[..., None]
        scaled = (mean.astype(np.float32) - np.float32(127.5)) * np.float32(0.0078125)
        return np.ascontiguousarray(np.moveaxis(scaled, -1, 1))


def _edges(
    start: NDArray[np.int64], end: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last pixels of ``count`` cells from start to end, ``[n, count]`` each."""
    size, cell = (end - start)[:, None], np.arange(count)
    first = start[:, None] + cell * size // count
    return first, start[:, None] - (-(cell + 1) * size // count)


def _scales(side: int, least: float) -> Iterator[float]:
    scale = _CELL / least
    shortest = side * scale
    while shortest >= _CELL:
        yield scale
        scale, shortest = scale * _FACTOR, shortest * _FACTOR


def _square(boxes: Corners) -> Corners:
    """Squares around the boxes."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + size * 0.5 - side * 0.5
    return np.hstack([corner, corner + side])


def _shifted(boxes: Corners, shifts: Values) -> Corners:
    size = boxes[:, 2:] - boxes[:, :2] + 1
    return np.asarray(boxes + shifts * np.hstack([size, size]))


def _suppress(
    boxes: Corners, scores: NDArray[Any], *, most: float, of_smaller: bool = False
) -> NDArray[np.int64]:
    """Non-maximum suppression: indices of the boxes that stay, surest first.

    Args:
        boxes: ``[n, 4]``.
        scores: ``[n]``.
        most: overlap up to which two boxes are two faces.
        of_smaller: overlap as a share of the smaller box, pixels counted; else of the union.
    """
    one = np.float32(of_smaller)
    area = (boxes[:, 2] - boxes[:, 0] + one) * (boxes[:, 3] - boxes[:, 1] + one)
    # of equal scores, which saturate at 1, each of the original's two functions takes another
    order = np.argsort(scores)[::-1] if of_smaller else np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, others = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[others, :2])
        high = np.minimum(boxes[best, 2:], boxes[others, 2:])
        both = np.maximum(np.float32(0), high - low + one).prod(axis=1)
        least = np.minimum(area[best], area[others])
        whole = least if of_smaller else area[best] + area[others] - both
        order = others[both / whole <= most]
    return np.array(kept, np.int64)


def _session(path: Path, threads: int) -> Any:  # noqa: ANN401 (onnxruntime is an extra)
    if not path.is_file():
        raise ConfigError(
            f"Bad face detector '{path.parent}': {path.name} is missing; export it anew."
        )
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no base of their own
        raise ConfigError(f"Bad face detector '{path}': {error}; export it anew.") from error
