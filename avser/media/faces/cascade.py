"""The cascade of MTCNN in numpy, around its three networks.

Zhang et al. 2016, "Joint Face Detection and Alignment Using Multi-task Cascaded Convolutional
Networks". Boxes and landmarks are those of facenet-pytorch's cascade to a hundredth of a pixel. A
search around a known face works on the same grid of the same pyramid, cut out, so that it gives
what a search of the whole picture gives there (but for candidates that reach over the cut).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avser.media.faces.detection import Box, Detection

Image = NDArray[np.uint8]
Values = NDArray[np.float32]
# [n, 4]: left, top, right, bottom. Single precision and the order of operations are those of
# facenet-pytorch: boxes are cut to whole pixels, and rounding errors decide which.
Corners = NDArray[np.float32]

#: From pictures ``[n, 3, H, W]``, about -1..1, to a network's outputs.
Network = Callable[[Values], tuple[Values, ...]]

#: The networks that propose, refine and finish.
NETWORKS = ("pnet", "rnet", "onet")

# MTCNN's time grows with the square of 1 / this. A talking head is larger than a ninth of the
# picture: 80 pixels at 720p, 40 at 360p.
MIN_FACE = 0.11
THRESHOLDS = (0.6, 0.7, 0.7)

_LEAST_PIXELS = 20  # faces below are blurs; enlarging small pictures to find them costs time
_FACTOR = 0.709  # from one size of the picture to the next
_CELL, _STRIDE = 12, 2  # pixels that the first network sees, and between two of its places
_TOGETHER = 64  # boxes whose overlaps are computed at once
_MOST_IN_32 = (2**31 - 1) // 255  # pixels whose sum fits: half the memory of 64 bits
_SAME_SIZE, _SAME = 0.5, 0.7  # overlap of boxes that are one face: at one size, and in all

# Around a known face: side of the square that is searched, and the sizes at which, in its own. Of
# 417 such searches (RAVDESS, the sample, two people who move) all gave the result of the whole
# picture; with a square of 2.5 it is 12 fewer, with sizes from .5 on 66. Sizes from .4 on are too
# few for a face of 53 pixels.
_AROUND = 3.0
_ALIKE = (0.35, 2.5)


def mtcnn_settings(min_face: float, thresholds: tuple[float, ...]) -> str:
    """All that the results of MTCNN depend on, in one text."""
    return f"mtcnn {min_face} {tuple(thresholds)}, at least {_LEAST_PIXELS} pixels"


@dataclass(frozen=True)
class _Window:
    """A part of a picture, in pixels."""

    top: int
    bottom: int
    left: int
    right: int


class MtcnnCascade:
    """A face detector made of MTCNN's three networks; has no state, so threads may share it.

    Args:
        networks: by the names of `NETWORKS`; their outputs are (boxes, scores), the last one's
            (boxes, landmarks, scores).
        min_face: height of the smallest face to look for, as a share of the picture's height.
        thresholds: of the scores of its three networks, 0..1.
    """

    def __init__(
        self,
        networks: Mapping[str, Network],
        *,
        min_face: float,
        thresholds: tuple[float, float, float],
    ) -> None:
        self.min_face, self._thresholds = min_face, thresholds
        self._propose, self._refine, self._finish = (networks[name] for name in NETWORKS)

    def __call__(self, image: Image) -> list[Detection]:
        """Find the faces of an upright RGB picture ``[H, W, 3]``, largest first."""
        return self._search(image, None)

    def near(self, image: Image, box: Box) -> list[Detection]:
        """See `LocalFaceDetector.near`."""
        return self._search(image, box)

    def _search(self, image: Image, known: Box | None) -> list[Detection]:
        # One candidate outside the picture spoils its whole batch: a margin around the picture
        # keeps candidates inside, and helps faces at the edge to be found.
        least = max(_LEAST_PIXELS, self.min_face * image.shape[0])
        margin = round(least / 2)
        if min(image.shape[:2]) < least:
            return []
        side = None if known is None else max(known[2:])
        window = None if known is None else _square_around(known, margin=margin)
        sums = _AreaSums(image, margin=margin, window=window)
        if sums.empty:
            return []
        boxes = self._refined(sums, self._proposed(sums, least, side))
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

    def _proposed(self, sums: _AreaSums, least: float, side: float | None) -> Corners:
        """Squares that may be faces, from the picture at many sizes; None: at all of them."""
        height, width = sums.shape
        candidates, scores = [np.zeros((0, 8), np.float32)], [np.zeros(0, np.float32)]
        for scale in _scales(min(height, width), least):
            if side is not None and not _ALIKE[0] <= _CELL / scale / side <= _ALIKE[1]:
                continue
            small, first = sums.resized(int(height * scale + 1), int(width * scale + 1))
            if min(small.shape[2:]) < _CELL:
                continue
            shifts, likely = self._propose(small)
            rows, columns = np.nonzero(likely[0, 1] >= self._thresholds[0])
            y, x = rows + first[0] // _STRIDE, columns + first[1] // _STRIDE
            places = np.stack([x, y, x, y], axis=1) * _STRIDE + 1
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
        shifts, likely = self._refine(crops)
        sure = likely[:, 1] > self._thresholds[1]
        boxes, shifts, score = boxes[sure], shifts[sure], likely[sure, 1]
        kept = _suppress(boxes, score, most=_SAME)
        return _square(_shifted(boxes[kept], shifts[kept]))

    def _finished(self, sums: _AreaSums, boxes: Corners) -> tuple[Corners, Values, Corners]:
        """Boxes, scores and landmarks ``[n, 5, 2]`` of the faces."""
        boxes, crops = sums.crops(boxes, 48)
        if not len(boxes):
            return boxes, np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
        shifts, places, likely = self._finish(crops)
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
        margin: pixels by which the picture is continued on all sides.
        window: part of the picture with its margin that is summed; None is all of it.

    Attributes:
        shape: (H, W) of the picture with its margin.
    """

    def __init__(self, image: Image, *, margin: int = 0, window: _Window | None = None) -> None:
        import cv2

        framed = cv2.copyMakeBorder(
            np.ascontiguousarray(image), margin, margin, margin, margin, cv2.BORDER_REPLICATE
        )
        height, width = framed.shape[:2]
        window = window or _Window(0, height, 0, width)
        self.shape = (height, width)
        self._window = _Window(
            top=max(0, window.top),
            bottom=min(height, window.bottom),
            left=max(0, window.left),
            right=min(width, window.right),
        )
        rows = slice(self._window.top, self._window.bottom)
        framed = framed[rows, self._window.left : self._window.right]
        self.empty = not framed.size
        if not self.empty:  # whole numbers: exact
            depth = cv2.CV_32S if framed.shape[0] * framed.shape[1] <= _MOST_IN_32 else cv2.CV_64F
            self._sums = cv2.integral(np.ascontiguousarray(framed), sdepth=depth)

    def resized(self, rows: int, columns: int) -> tuple[Values, tuple[int, int]]:
        """The picture in so many cells, as ``[1, 3, h, w]``, about -1..1.

        Returns:
            The cells that lie in the window, from an even one on, and the (row, column) of the
            first.
        """
        height, width = self.shape
        window = self._window
        top, bottom, row = _inside(height, rows, window.top, window.bottom)
        left, right, column = _inside(width, columns, window.left, window.right)
        bands = self._sums[bottom] - self._sums[top]
        sums = bands.take(right, axis=1) - bands.take(left, axis=1)
        area = (bottom - top)[:, None] * (right - left)
        return _scaled(sums / area[..., None])[None], (row, column)

    def crops(self, boxes: Corners, side: int) -> tuple[Corners, Values]:
        """Boxes that lie in the window, and what they hold as ``[n, 3, side, side]``."""
        height, width = self.shape
        window = self._window
        whole = np.trunc(boxes).astype(np.int64)
        left, top = (np.maximum(whole[:, i], 1) - 1 for i in (0, 1))  # they count from 1
        right, bottom = np.minimum(whole[:, 2], width), np.minimum(whole[:, 3], height)
        inside = (right > left) & (bottom > top)
        inside &= (left >= window.left) & (top >= window.top)
        inside &= (right <= window.right) & (bottom <= window.bottom)
        across = _edges(left[inside] - window.left, right[inside] - window.left, side)
        down = _edges(top[inside] - window.top, bottom[inside] - window.top, side)
        return boxes[inside], self._areas(down, across)

    def _areas(self, down: _Edges, across: _Edges) -> Values:
        (top, bottom), (left, right) = down, across
        flat, width = self._sums.reshape(-1, 3), self._sums.shape[1]
        sums = [
            flat.take(y[:, :, None] * width + x[:, None, :], axis=0)
            for y, x in ((bottom, right), (top, right), (bottom, left), (top, left))
        ]
        area = (bottom - top)[:, :, None] * (right - left)[:, None, :]
        return _scaled((sums[0] - sums[1] - sums[2] + sums[3]) / area[..., None])


def _scaled(means: NDArray[np.float64]) -> Values:
    """Means ``[..., H, W, 3]`` of 0..255 as the networks take them, ``[..., 3, H, W]``."""
    scaled = (means.astype(np.float32) - np.float32(127.5)) * np.float32(0.0078125)
    return np.moveaxis(scaled, -1, -3)


def _inside(
    size: int, count: int, start: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """First and last pixels, from ``start`` on, of those of ``count`` cells that lie inside.

    Beginning and number are even, or the network's pooling would pair other cells than those of
    the whole picture.
    """
    (first,), (last,) = _edges(np.zeros(1, np.int64), np.full(1, size), count)
    low, high = int(np.searchsorted(first, start)), int(np.searchsorted(last, end, side="right"))
    low += low % 2
    if high < count:
        high -= (high - low) % 2
    return first[low:high] - start, last[low:high] - start, low


def _square_around(box: Box, *, margin: int) -> _Window:
    """The square that is searched for a known face, in a picture with a margin."""
    x, y, w, h = box
    reach = _AROUND / 2 * max(w, h)
    top, bottom, left, right = (
        round(v + margin)
        for v in (y + h / 2 - reach, y + h / 2 + reach, x + w / 2 - reach, x + w / 2 + reach)
    )
    return _Window(top, bottom, left, right)


_Edges = tuple[NDArray[np.int64], NDArray[np.int64]]


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
    kept: list[np.int64] = []
    while len(order):
        first = order[:_TOGETHER]
        rows, columns = boxes[first].T[:, :, None], boxes[order].T[:, None]
        low = np.maximum(rows[:2], columns[:2])
        width, height = np.minimum(rows[2:], columns[2:]) - low + one
        both = np.maximum(np.float32(0), width) * np.maximum(np.float32(0), height)
        least = np.minimum(area[first, None], area[order])
        whole = least if of_smaller else area[first, None] + area[order] - both
        apart = both / whole <= most
        stays = np.ones(len(order), np.bool_)
        for index, box in enumerate(first):
            if stays[index]:
                kept.append(box)
                stays &= apart[index]
        order = order[_TOGETHER:][stays[_TOGETHER:]]
    return np.array(kept, np.int64)
