"""Tracking of people from one sampled frame to the next.

Frames are a quarter of a second apart, so that a moving head may have left its old box: a face is
looked for where its constant velocity leads (Kalman-style trackers such as SORT, Bewley et al.
2016, without their covariances), and what it looks like decides between people who meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from avser.media.faces.detection import Detection

Image = NDArray[np.uint8]
Look = NDArray[np.float64]
Points = NDArray[np.float64]

LOST_S = 1.3  # a face may be lost for a second, and the next frame is a quarter of one later
# Looks, measured: one person in three RAVDESS clips .92 to 1 (1st percentile, median .98); two
# people of FER2013, in grey, .23 in the median and .73 at the 99th percentile, which skin of one
# colour lifts by half of what is missing to 1.
_ALIKE = 0.93  # looks above belong to one person even after a longer loss
_REMEMBERED = 16  # people who left and may come back
_KNOWN = 3  # frames after which a person is remembered

_SIDE = 12  # of the thumbnail by which faces are compared
_LOOK_WEIGHT = 5.0  # looks of two people differ by .2 to .6, their places (in cost) by up to 1.5
_MAX_COST = 1.6  # another person in the same place, as after a cut of the film, costs 1.9
_REACH = 1.5  # how far from where it is expected a face may be, in its sizes
_REACH_PER_S = 1.5  # and how this grows while it is lost
_FAST = 4.0  # no head moves faster, in its sizes a second


def appearance_of(crop: Image) -> Look:
    """What a face looks like, for comparing by a dot product (a correlation, -1..1).

    A thumbnail in colour of the middle of an aligned crop, without its mean, of length 1. One
    without any structure looks like all others without: then motion alone decides.
    """
    import cv2

    edge = len(crop) // 8  # hair and background change more than the face does
    inner = crop[edge : len(crop) - edge, edge : len(crop) - edge]
    small = cv2.resize(inner, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    small = small.ravel() - small.mean()
    if np.abs(small).max() < 1:  # of 255
        small = np.ones_like(small)
    return np.asarray(small / np.linalg.norm(small))


@dataclass
class _Person:
    number: int
    time_s: float
    points: Points  # [7, 2]: two corners of the box and the five landmarks, in pixels
    look: Look
    last_look: Look
    velocity: Points = field(default_factory=lambda: np.zeros(2))  # of the centre, pixels a second
    count: int = 1

    @property
    def size(self) -> float:
        return max(1.0, float(np.sqrt(np.prod(np.maximum(self.points[1] - self.points[0], 1.0)))))

    def likeness(self, look: Look) -> float:
        return float(max(self.look @ look, self.last_look @ look))

    def follow(self, time_s: float, points: Points, look: Look) -> None:
        gap_s = time_s - self.time_s
        if 0 < gap_s <= LOST_S:
            speed = (points[:2].mean(axis=0) - self.points[:2].mean(axis=0)) / gap_s
            # two frames give a velocity; later ones smooth the jitter of the detector
            self.velocity = speed if self.count == 1 else 0.4 * self.velocity + 0.6 * speed
            most = _FAST * self.size
            self.velocity *= min(1.0, most / max(float(np.hypot(*self.velocity)), 1e-9))
        else:
            self.velocity = np.zeros(2)
        mixed = 0.8 * self.look + 0.2 * look
        self.look = mixed / max(float(np.linalg.norm(mixed)), 1e-9)
        self.time_s, self.points, self.last_look = time_s, points, look
        self.count += 1


class Tracker:
    """Gives each face of each frame the number of the person it belongs to.

    A loss of about a second is bridged by motion and looks; after a longer one a person is known
    again only by looks that hardly changed.
    """

    def __init__(self) -> None:
        self._people: list[_Person] = []
        self._numbers = 0

    def update(
        self, time_s: float, *, detections: Sequence[Detection], looks: Sequence[Look]
    ) -> list[int]:
        """Name the faces of the next frame.

        Args:
            time_s: of the frame, in seconds, not before the last one's.
            detections: its n faces.
            looks: n vectors from `appearance_of`.

        Returns:
            n different numbers of people, 0 for the first person ever seen.
        """
        points = [
            np.vstack([d.box[:2], np.add(d.box[:2], d.box[2:]), d.landmarks]) for d in detections
        ]
        # who was just seen is kept, and the last ones who left: memory stays bounded
        gone = [p for p in self._people if time_s - p.time_s > LOST_S and p.count >= _KNOWN]
        gone = sorted(gone, key=lambda person: person.time_s)[-_REMEMBERED:]
        near = [person for person in self._people if time_s - person.time_s <= LOST_S]
        self._people = near + gone
        named: dict[int, _Person] = {}
        costs = [[_cost(p, time_s, x, y) for x, y in zip(points, looks, strict=True)] for p in near]
        for row, column in _assign(costs, most=_MAX_COST):
            named[column] = near[row]
        left = [index for index in range(len(points)) if index not in named]
        costs = [[1 - person.likeness(looks[index]) for index in left] for person in gone]
        for row, column in _assign(costs, most=1 - _ALIKE):
            named[left[column]] = gone[row]
        for index, (shape, look) in enumerate(zip(points, looks, strict=True)):
            if index in named:
                named[index].follow(time_s, shape, look)
            else:
                named[index] = _Person(self._numbers, time_s, shape, look, look)
                self._people.append(named[index])
                self._numbers += 1
        return [named[index].number for index in range(len(points))]


def _cost(person: _Person, time_s: float, points: Points, look: Look) -> float:
    """How ill a face fits a person: 0 is perfect, infinite is out of reach."""
    gap_s = time_s - person.time_s
    expected = person.points + person.velocity * gap_s
    size = max(person.size, 1.0)
    grown = np.log2(_area(points) / _area(person.points)) / 2
    centre = points[:2].mean(axis=0)
    away = min(
        float(np.hypot(*(centre - where[:2].mean(axis=0)))) for where in (expected, person.points)
    )  # heads also stop and turn back, so that the old place counts as well
    if away > (_REACH + _REACH_PER_S * gap_s) * size or abs(grown) > 1:
        return np.inf
    marks = float(np.hypot(*(points[2:] - expected[2:]).T).mean()) / size
    corners = np.minimum(points[1], expected[1]) - np.maximum(points[0], expected[0])
    both = np.maximum(0.0, corners).prod()
    overlap = float(both / (_area(points) + _area(expected) - both))  # intersection over union
    motion = 0.5 * (1 - overlap) + 0.5 * min(marks, 2.0)
    return motion + _LOOK_WEIGHT * (1 - person.likeness(look))


def _area(points: Points) -> float:
    return float(np.prod(np.maximum(points[1] - points[0], 1.0)))


def _assign(costs: list[list[float]], *, most: float) -> list[tuple[int, int]]:
    """Pairs (row, column) of least cost in all, none above ``most`` (Hungarian method)."""
    if not costs or not costs[0]:
        return []
    from scipy.optimize import linear_sum_assignment

    # what is too far costs as much as staying alone, so that it never decides between others
    table = np.minimum(np.array(costs), most + 1e-6)
    rows, columns = linear_sum_assignment(table)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if table[i, j] <= most]
