"""Faces followed from frame to frame, and when the whole picture is searched."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avser.media.decoders import Frame
from avser.media.faces import (
    Detection,
    FaceCollector,
    Faces,
    LocalFaceDetector,
    MtcnnDetector,
    VideoFaceDetector,
    sample_times,
)
from avser.testing.faces import Person, frames, head, read_picture
from avser.testing.media import Picture

SIZE = (180, 320)


@dataclass
class Squares:
    """Finds bright squares by their brightness; counts what it is asked for."""

    score: float = 0.99
    whole: int = 0
    nearby: list[tuple[float, ...]] = field(default_factory=list)

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        self.whole += 1
        return [_square(image, level, 0.99) for level in (200, 240) if (image == level).any()]

    def near(self, image: NDArray[np.uint8], box: tuple[float, ...]) -> list[Detection]:
        self.nearby.append(box)
        x, y, w, h = (round(v) for v in box)
        region = np.zeros_like(image)
        rows, columns = slice(max(0, y - h), y + 2 * h), slice(max(0, x - w), x + 2 * w)
        region[rows, columns] = image[rows, columns]
        levels = [level for level in (200, 240) if (region == level).any()]
        return [_square(image, level, self.score) for level in levels]


def _square(image: NDArray[np.uint8], level: int, score: float) -> Detection:
    y, x = np.nonzero(image[..., 0] == level)
    box = (float(x.min()), float(y.min()), float(np.ptp(x) + 1), float(np.ptp(y) + 1))
    return Detection(box, score, np.zeros((5, 2)))


def drawn(*squares: tuple[int, int, int], background: int = 50) -> NDArray[np.uint8]:
    """A picture with squares of 40 pixels, each (x, y, level)."""
    image = np.full((*SIZE, 3), background, np.uint8)
    for x, y, level in squares:
        image[y : y + 40, x : x + 40] = level
    return image


def searches(detector: Squares, images: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Numbers of the frames, a quarter of a second apart, whose whole picture is searched."""
    video = VideoFaceDetector(detector)
    result = []
    for index, image in enumerate(images):
        before = detector.whole
        video(Frame(index * 0.25, image))
        if detector.whole > before:
            result.append(index)
    assert video.searches == len(result)
    return result


def test_a_quiet_picture_is_searched_every_two_seconds() -> None:
    images = [drawn((100 + 3 * n, 70, 200)) for n in range(18)]
    detector = Squares()
    assert isinstance(detector, LocalFaceDetector)
    assert searches(detector, images) == [0, 8, 16]
    assert detector.nearby[:2] == [(100, 70, 40, 40), (103, 70, 40, 40)]


def test_who_comes_is_seen_at_once() -> None:
    alone, two = drawn((60, 70, 200)), drawn((60, 70, 200), (220, 60, 240))
    detector = Squares()
    video = VideoFaceDetector(detector)
    counts = [
        len(video(Frame(n * 0.25, image))) for n, image in enumerate([alone, alone, two, two])
    ]
    assert counts == [1, 1, 2, 2]
    assert video.searches == 2 and len(detector.nearby) == 3


def test_a_lost_face_is_looked_for_everywhere() -> None:
    empty = drawn()
    far = drawn((60, 70, 200)), drawn((230, 70, 200))
    assert searches(Squares(), [far[0], far[0], far[1], far[1]]) == [0, 2]
    assert searches(Squares(), [far[0], empty, empty, far[0], far[0]]) == [0, 1, 2, 3]


def test_another_light_or_size_of_the_picture_has_it_searched() -> None:
    image = drawn((60, 70, 200))
    lighter = drawn((60, 70, 200), background=80)
    assert searches(Squares(), [image, lighter, lighter, image[:160], image[:160]]) == [0, 1, 3]


@pytest.mark.parametrize(("score", "expected"), [(0.99, [0]), (0.9, [0, 1, 2])])
def test_an_unsure_face_has_the_whole_picture_searched(score: float, expected: list[int]) -> None:
    assert searches(Squares(score=score), [drawn((60, 70, 200))] * 3) == expected


def test_two_people_who_become_one_have_the_whole_picture_searched() -> None:
    apart = drawn((60, 70, 200), (110, 70, 240))
    one = drawn((80, 70, 200))
    assert searches(Squares(), [apart, apart, one]) == [0, 2]


def test_a_detector_of_whole_pictures_searches_each() -> None:
    detector = Squares()
    video = VideoFaceDetector(lambda image: detector(image))
    for n in range(4):
        assert len(video(Frame(n * 0.25, drawn((60, 70, 200))))) == 1
    assert video.searches == 4 and not detector.nearby


def test_people_are_those_of_whole_searches() -> None:
    """Two people who move, one of whom comes later and leaves, with the real detector."""
    face: Picture = read_picture(Path(__file__).parents[2] / "examples" / "face.jpg")
    way = 0.3 + 0.05 * np.sin(np.arange(12))
    comes = [None if n < 3 or n > 8 else (0.75, 0.5) for n in range(12)]
    people = [Person(head(face, height=90), [(float(x), 0.5) for x in way])]
    people += [Person(head(face, height=80, mirrored=True, beard=True), comes)]
    detector = MtcnnDetector()
    counted: list[int] = []

    def whole(image: NDArray[np.uint8]) -> list[Detection]:
        counted.append(1)
        return detector(image)

    class Counting(MtcnnDetector):
        def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
            counted.append(1)
            return super().__call__(image)

    def collected(chosen: object) -> tuple[int, Faces, list[NDArray[np.uint8]]]:
        counted.clear()
        with FaceCollector(detector=chosen) as collector:  # type: ignore[arg-type]
            times = islice(sample_times(), 12)
            for frame in frames(people, times_s=times, count=12, size=SIZE):
                collector.add(frame)
            faces = collector.finish()
            return len(counted), faces, [np.asarray(track.crops) for track in faces.tracks]

    every, expected, crops = collected(whole)
    some, faces, same = collected(Counting())
    assert every == 12 and some <= 6
    assert len(faces.tracks) == len(expected.tracks) == 2
    for track, other in zip(faces.tracks, expected.tracks, strict=True):
        assert track.places.tolist() == other.places.tolist()
        np.testing.assert_allclose(track.boxes, other.boxes, atol=1e-4)
    for crop, other_crop in zip(same, crops, strict=True):
        assert np.abs(crop.astype(int) - other_crop).max() <= 2
