"""People in videos, from the file to the crops, with the real detector."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from avser.errors import AvserError
from avser.media.decoders import Frame
from avser.media.faces import (
    DETECT_HEIGHT,
    FACES_PER_STEP,
    Detection,
    FaceCollector,
    Faces,
    MtcnnDetector,
    sample_times,
)
from avser.media.reader import open_media
from avser.testing.faces import Person, darker, frames, head, read_picture, scene, write_turned
from avser.testing.media import Picture, write_video
from avser.types import STEP_S

SMALL = (180, 320)


@pytest.fixture(scope="module")
def detector() -> MtcnnDetector:
    return MtcnnDetector()


@pytest.fixture(scope="module")
def face() -> Picture:
    return read_picture(Path(__file__).parents[2] / "examples" / "face.jpg")


@pytest.fixture
def woman(face: Picture) -> Picture:
    return head(face, height=90)


@pytest.fixture
def man(face: Picture) -> Picture:
    """Who looks different: mirrored, darker, bearded."""
    return head(face, height=80, mirrored=True, tint=(0.75, 0.7, 0.7), beard=True)


def still(picture: Picture, x: float = 0.5, *, count: int) -> Person:
    return Person(picture, [(x, 0.5)] * count)


def collected(collector: FaceCollector, people: Sequence[Person]) -> Faces:
    count = len(people[0].path)
    for frame in frames(people, times_s=sample_times(), count=count, size=SMALL):
        collector.add(frame)
    return collector.finish()


class Told:
    """A detector that is told what to find, frame after frame."""

    def __init__(self, answers: Sequence[list[Detection]]) -> None:
        self._answers: Iterator[list[Detection]] = iter(answers)

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        return next(self._answers)


def detection(x: float, *, side: float = 40.0, score: float = 0.99) -> Detection:
    shares = [(0.31, 0.37), (0.69, 0.37), (0.5, 0.6), (0.35, 0.75), (0.65, 0.75)]
    return Detection((x, 60.0, side, side), score, np.array(shares) * side + (x, 60.0))


def collected_noise(collector: FaceCollector, count: int) -> Faces:
    # a picture with structure, so that people in different places look different
    ramp = np.random.default_rng(3).integers(0, 255, (*SMALL, 3)).astype(np.uint8)
    for time_s in islice(sample_times(), count):
        collector.add(Frame(time_s, ramp.copy()))
    return collector.finish()


def test_a_held_picture_is_looked_at_once_and_counts_at_each_time() -> None:
    detector = Told([[detection(100)], [detection(120)]])
    first, second = (np.full((*SMALL, 3), level, np.uint8) for level in (60, 90))
    with FaceCollector(detector=detector) as collector:
        for time_s, image in zip(sample_times(), [first] * 5 + [second] * 3, strict=False):
            collector.add(Frame(time_s, image))
        main = collector.finish().main
        assert main is not None and main.places.tolist() == list(range(8))
        x = main.boxes[:, 0] * SMALL[1]
        np.testing.assert_allclose(x, [100] * 5 + [120] * 3)
        assert len(np.asarray(main.crops)) == 8


# the grid


@pytest.mark.parametrize("per_step", [1, 2, 3])
def test_faces_are_looked_for_in_the_middle_of_equal_parts_of_a_step(per_step: int) -> None:
    times = list(islice(sample_times(per_step), 4 * per_step))
    wanted = [(t + (n + 0.5) / per_step) * STEP_S for t in range(4) for n in range(per_step)]
    assert times == pytest.approx(wanted)
    assert next(sample_times()) == pytest.approx(0.5 / FACES_PER_STEP * STEP_S)


def test_a_face_comes_back_at_its_step_and_slot(detector: MtcnnDetector, woman: Picture) -> None:
    path = [(0.5, 0.5), (0.5, 0.5), None, (0.5, 0.5), None, None]
    with FaceCollector(detector=detector) as collector:
        result = collected(collector, [Person(woman, path)])
        assert result.main is not None
        assert result.main.places.tolist() == [0, 1, 3]
        grid, mask = result.main.grid(1, 4)
        assert grid.shape == (4, 2, 3, 112, 112) and grid.dtype == np.uint8
        assert mask.tolist() == [[False, True], *[[False, False]] * 3]
        np.testing.assert_array_equal(grid[0, 1], np.moveaxis(result.main.crops[2], -1, 0))
        assert not grid[~mask].any()


def test_a_late_frame_belongs_to_the_slot_that_it_answers(detector: MtcnnDetector) -> None:
    times = [*islice(sample_times(), 6)]
    late = [times[0], times[1] - 0.001, times[2] + 0.2, times[5] + 0.039]
    with FaceCollector(detector=Told([[detection(100)]] * 4)) as collector:
        for time_s in late:
            collector.add(Frame(time_s, np.zeros((*SMALL, 3), np.uint8)))
        main = collector.finish().main
        assert main is not None and main.places.tolist() == [0, 1, 2, 5]
        assert main.times_s.tolist() == late


# from files


def test_a_face_in_a_file_is_found_in_every_sampled_frame(
    tmp_path: Path, detector: MtcnnDetector, face: Picture
) -> None:
    people = [still(head(face, height=200), count=20)]
    pictures = np.stack([scene(people, index=n, size=(480, 640)) for n in range(20)])
    path = write_video(tmp_path / "a.mp4", pictures)  # 2 s: the last frame is shown until 2.0
    with FaceCollector(detector=detector) as collector:
        for block in open_media(path, frame_times=sample_times(), frame_height=DETECT_HEIGHT):
            for frame in block.frames:
                assert frame.image.shape == (360, 480, 3)
                collector.add(frame)
        result = collector.finish()
        assert (result.sampled, result.detected, result.reason) == (8, 8, None)
        assert result.main is not None and len(result.tracks) == 1
        x, y, w, h = result.main.boxes.mean(axis=0)
        assert x + w / 2 == pytest.approx(0.5, abs=0.03) and 0.35 < y + h / 2 < 0.65
        assert 0.15 < h < 0.4 and 0 < w < h


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV can't write rotation"
)
@pytest.mark.parametrize("rotation", [90, 180])
def test_a_phone_held_sideways_shows_an_upright_face(
    tmp_path: Path, detector: MtcnnDetector, woman: Picture, rotation: int
) -> None:
    people, size = [still(woman, count=8)], (320, 180)
    pictures = np.stack([scene(people, index=n, size=size) for n in range(8)])
    path = write_turned(tmp_path / "a.mp4", pictures, rotation=rotation)
    with FaceCollector(detector=detector) as collector:
        for block in open_media(path, frame_times=sample_times(), frame_height=DETECT_HEIGHT):
            for frame in block.frames:
                assert frame.image.shape == (320, 180, 3)
                collector.add(frame)
        result = collector.finish()
        assert result.reason is None and result.main is not None
        assert result.main.boxes[0, 0] + result.main.boxes[0, 2] / 2 == pytest.approx(0.5, abs=0.05)


# odd pictures


def test_a_face_turned_away_is_found(detector: MtcnnDetector, face: Picture) -> None:
    """No profile is at hand: a face squeezed to half its width has a profile's close eyes."""
    people = [still(head(face, height=100, squeeze=0.5), count=3)]
    with FaceCollector(detector=detector) as collector:
        assert collected(collector, people).reason is None


def test_a_dark_picture_shows_its_face(detector: MtcnnDetector, woman: Picture) -> None:
    dark = darker(scene([still(woman, count=1)], index=0, size=SMALL), gamma=4)
    assert dark.mean() < 12
    assert len(detector(dark)) == 1


def test_a_tiny_face_and_none_are_told_in_words(detector: MtcnnDetector, face: Picture) -> None:
    for people in ([still(head(face, height=20), count=3)], [Person(face, [None] * 3)]):
        with FaceCollector(detector=detector) as collector:
            result = collected(collector, people)
            assert result.reason == "no face found in 3 of 3 sampled frames"
            assert result.main is None and result.tracks == () and result.detected == 0


def test_no_frames_at_all_are_told_in_words() -> None:
    with FaceCollector() as collector:
        assert collector.finish() == Faces(
            sampled=0, detected=0, tracks=(), reason="no frame could be sampled"
        )


def test_a_face_that_leaves_midway_is_found_in_part(
    detector: MtcnnDetector, woman: Picture
) -> None:
    path = [(0.5, 0.5)] * 5 + [None] * 4
    with FaceCollector(detector=detector) as collector:
        result = collected(collector, [Person(woman, path)])
        assert result.reason == "face found in 5 of 9 sampled frames"
        assert (result.sampled, result.detected) == (9, 5)


# several people


def test_the_main_person_is_the_one_seen_longest_and_largest(
    detector: MtcnnDetector, face: Picture, man: Picture
) -> None:
    people = [still(head(face, height=120), x, count=4) for x in (0.5,)]
    people += [still(man, 0.15, count=4), still(head(face, height=60), 0.85, count=4)]
    with FaceCollector(detector=detector) as collector:
        result = collected(collector, people)
        centres = [t.boxes[:, 0].mean() + t.boxes[:, 2].mean() / 2 for t in result.tracks]
        assert centres == pytest.approx([0.5, 0.15, 0.85], abs=0.04)
        assert [t.face_id for t in result.tracks] == [0, 1, 2]
        assert result.reason is None and all(len(t.crops) == 4 for t in result.tracks)
    brief = Person(head(face, height=120), [(0.3, 0.5), *[None] * 7])
    with FaceCollector(detector=detector) as collector:
        result = collected(collector, [brief, still(man, 0.75, count=8)])
        assert result.main is not None and result.main.boxes[0, 0] > 0.5


@pytest.mark.parametrize("first", [0, 1])
def test_people_who_cross_keep_who_they_are(
    detector: MtcnnDetector, woman: Picture, man: Picture, first: int
) -> None:
    way = np.linspace(0.15, 0.85, 14)
    people = [Person(woman, [(x, 0.5) for x in way]), Person(man, [(1 - x, 0.5) for x in way])]
    people = people[first:] + people[:first]  # who walks before whom
    with FaceCollector(detector=detector) as collector:
        result = collected(collector, people)
        assert len(result.tracks) == 2
        for track in result.tracks:
            centres = track.boxes[:, 0] + track.boxes[:, 2] / 2
            light = np.asarray(track.crops).mean(axis=(1, 2, 3))
            expected = way if light[0] > 110 else 1 - way
            np.testing.assert_allclose(centres, expected[track.places], atol=0.05)
            assert np.ptp(light) < 25  # 140 and 80 are the two


def test_people_who_approach_and_part_keep_who_they_are(
    detector: MtcnnDetector, woman: Picture, man: Picture
) -> None:
    way = 0.08 + 0.6 * np.abs(np.linspace(-0.5, 0.5, 12))
    people = [Person(woman, [(0.5 - x, 0.5) for x in way])]
    people += [Person(man, [(0.5 + x, 0.5) for x in way])]
    with FaceCollector(detector=detector) as collector:
        result = collected(collector, people)
        assert len(result.tracks) == 2 and result.reason is None
        sides = [t.boxes[:, 0] + t.boxes[:, 2] / 2 < 0.5 for t in result.tracks]
        assert all(side.all() or not side.any() for side in sides)


def test_short_losses_do_not_make_a_second_person(detector: MtcnnDetector, woman: Picture) -> None:
    xs = np.linspace(0.3, 0.7, 12)
    path = [None if n in (3, 6, 7, 8) else (float(x), 0.5) for n, x in enumerate(xs)]
    with FaceCollector(detector=detector) as collector:
        result = collected(collector, [Person(woman, path)])
        assert len(result.tracks) == 1
        assert result.reason == "face found in 8 of 12 sampled frames"


def test_one_doubtful_glimpse_is_nobody() -> None:
    answers = [[detection(100)] for _ in range(8)]
    answers[4].append(detection(250, score=0.8))
    with FaceCollector(detector=Told(answers)) as collector:
        assert len(collected_noise(collector, 8).tracks) == 1
    answers[4][1] = detection(250, score=0.99)
    with FaceCollector(detector=Told(answers)) as collector:
        assert len(collected_noise(collector, 8).tracks) == 2


def test_a_single_picture_may_show_a_doubtful_face() -> None:
    with FaceCollector(detector=Told([[detection(100, score=0.75)]])) as collector:
        assert collected_noise(collector, 1).detected == 1


# the spool


def test_crops_wait_on_disk_and_are_gone_when_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avser.media.faces.collect._IN_MEMORY", 1)  # to the disk at once
    with FaceCollector(detector=Told([[detection(100)]] * 5), spool=tmp_path) as collector:
        main = collected_noise(collector, 5).main
        assert main is not None
        assert main.crops.shape == (5, 112, 112, 3) and main.crops[1:3].shape == (2, 112, 112, 3)
        np.testing.assert_array_equal(np.asarray(main.crops)[4], main.crops[-1])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AvserError, match="FaceCollector is closed"):
        main.crops[0]


def test_a_spool_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AvserError, match=r"Bad spool .* expected a folder"):
        FaceCollector(spool=tmp_path / "none")


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(AvserError, match="Bad per_step 0"):
        sample_times(0)
    with pytest.raises(AvserError, match="Bad size 0"):
        FaceCollector(size=0)
    with pytest.raises(AvserError, match=r"Bad min_face 1\.5"):
        MtcnnDetector(min_face=1.5)


def test_a_detector_may_be_brought_along(woman: Picture) -> None:
    with FaceCollector(detector=Told([[]] * 2)) as collector:
        assert collected_noise(collector, 2).reason == "no face found in 2 of 2 sampled frames"
