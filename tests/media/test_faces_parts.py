"""Detectors, crops and the tracker, each alone."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN

from avser.errors import AvserError
from avser.media.faces import Detection, MtcnnDetector, Tracker, YuNetDetector, align
from avser.media.faces.collect import BOX_HEIGHT, EYES, EYES_APART
from avser.media.faces.tracker import appearance_of
from avser.testing.faces import Person, head, read_picture, scene
from avser.testing.media import Picture

SHARES = np.array([(0.31, 0.37), (0.69, 0.37), (0.5, 0.6), (0.35, 0.75), (0.65, 0.75)])


@pytest.fixture(scope="module")
def mtcnn() -> MtcnnDetector:
    return MtcnnDetector()


@pytest.fixture(scope="module")
def face() -> Picture:
    return read_picture(Path(__file__).parents[2] / "examples" / "face.jpg")


def shown(face: Picture) -> Picture:
    return scene([Person(head(face, height=150), [(0.5, 0.5)])], index=0, size=(180, 320))


# detectors


def test_landmarks_come_as_eyes_nose_and_mouth_from_left_to_right(
    mtcnn: MtcnnDetector, face: Picture
) -> None:
    (result,) = mtcnn(shown(face))
    left, right, nose, mouth_left, mouth_right = result.landmarks
    assert left[0] < nose[0] < right[0] and mouth_left[0] < mouth_right[0]
    assert left[1] < nose[1] < mouth_left[1] and right[1] < nose[1] < mouth_right[1]
    x, y, w, h = result.box
    assert ((result.landmarks > (x, y)) & (result.landmarks < (x + w, y + h))).all()
    assert 0.9 < result.score <= 1


def test_moving_the_picture_moves_the_face(mtcnn: MtcnnDetector, face: Picture) -> None:
    people = [[Person(head(face, height=100), [(x, 0.5)])] for x in (0.4, 0.5)]
    boxes = [mtcnn(scene(p, index=0))[0].box for p in people]
    assert boxes[1][0] - boxes[0][0] == pytest.approx(32, abs=4)
    assert boxes[1][1] == pytest.approx(boxes[0][1], abs=3)


def test_faces_are_those_of_facenet_pytorch(mtcnn: MtcnnDetector, face: Picture) -> None:
    people = [Person(head(face, height=110), [(0.3, 0.5)])]
    people += [Person(head(face, height=70, mirrored=True), [(0.75, 0.4)])]
    picture = scene(people, index=0, size=(180, 320))
    margin = 10  # half the height of the smallest face, a ninth of the picture's
    framed = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    reference = MTCNN(keep_all=True, min_face_size=20)
    found = reference.detect(torch.from_numpy(framed)[None].float(), landmarks=True)
    boxes, scores, points = (np.array(each.tolist(), np.float64) for each in found)
    result = mtcnn(picture)
    assert len(result) == len(boxes[0]) == 2
    for face_, box, score, marks in zip(result, boxes[0], scores[0], points[0], strict=True):
        x, y, w, h = face_.box
        np.testing.assert_allclose((x, y, x + w, y + h), box - margin, atol=0.01)
        np.testing.assert_allclose(face_.landmarks, marks - margin, atol=0.01)
        assert face_.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("centre", [(0.3, 0.5), (0.03, 0.4), (0.4, 0.95)])
@pytest.mark.parametrize("away", [(0.0, 0.0), (0.3, -0.2)])
def test_a_search_around_a_face_finds_what_a_whole_search_finds(
    mtcnn: MtcnnDetector,
    face: Picture,
    centre: tuple[float, float],
    away: tuple[float, float],
) -> None:
    people = [Person(head(face, height=110), [centre])]
    people += [Person(head(face, height=70, mirrored=True), [(0.85, 0.4)])]
    picture = scene(people, index=0, size=(180, 320))
    whole = mtcnn(picture)
    assert len(whole) == 2
    x, y, w, h = whole[0].box
    (near,) = mtcnn.near(picture, (x + away[0] * w, y + away[1] * h, 0.9 * w, 0.9 * h))
    np.testing.assert_allclose(near.box, whole[0].box, atol=0.01)
    np.testing.assert_allclose(near.landmarks, whole[0].landmarks, atol=0.01)
    assert near.score == pytest.approx(whole[0].score, abs=1e-4)


@pytest.mark.parametrize("box", [(400.0, 50.0, 40.0, 40.0), (-90.0, -90.0, 30.0, 30.0)])
def test_a_search_around_a_face_beside_the_picture_finds_nobody(
    mtcnn: MtcnnDetector, face: Picture, box: tuple[float, float, float, float]
) -> None:
    assert mtcnn.near(shown(face), box) == []


def test_a_face_smaller_than_asked_for_is_not_found(face: Picture) -> None:
    picture = scene([Person(head(face, height=60), [(0.5, 0.5)])], index=0, size=(180, 320))
    assert len(MtcnnDetector(min_face=0.15)(picture)) == 1  # it is .19 of the picture
    assert MtcnnDetector(min_face=0.6)(picture) == []


@pytest.mark.parametrize("size", [(1, 1), (5, 400), (19, 19), (20, 20), (300, 21), (64, 64)])
def test_tiny_and_odd_pictures_hold_no_face_and_raise_nothing(
    mtcnn: MtcnnDetector, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    assert mtcnn(np.zeros((*size, 3), np.uint8)) == []
    mtcnn(rng.integers(0, 255, (*size, 3)).astype(np.uint8))


def test_faces_cut_by_the_edge_raise_nothing(mtcnn: MtcnnDetector, face: Picture) -> None:
    for x, y in [(0.02, 0.5), (0.98, 0.5), (0.5, 0.02), (0.5, 0.98), (0.1, 0.1)]:
        mtcnn(scene([Person(head(face, height=150), [(x, y)])], index=0))


def test_no_yunet_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(AvserError, match=r"no such file; get .*2023mar.onnx from https://"):
        YuNetDetector(tmp_path / "none.onnx")


def test_a_file_that_is_no_yunet_says_where_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(AvserError, match="can't read it; get "):
        YuNetDetector(tmp_path / "a.onnx")


def test_yunet_rows_become_detections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Stub:
        rows: Any = np.array([[10, 20, 30, 40, *range(50, 60), 0.875]], np.float32)

        @classmethod
        def create(cls, model: str, config: str, size: tuple[int, int], score: float) -> "Stub":
            asked.update(model=model, score=score)
            return cls()

        def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802
            asked["size"] = size

        def detect(self, image: Any) -> tuple[int, Any]:
            asked["pixel"] = image[0, 0].tolist()
            return 1, self.rows

    monkeypatch.setattr(cv2, "FaceDetectorYN", Stub)
    (tmp_path / "a.onnx").touch()
    detector = YuNetDetector(tmp_path / "a.onnx", min_score=0.8)
    picture = np.zeros((90, 160, 3), np.uint8)
    picture[..., 0] = 200  # red
    (result,) = detector(picture)
    assert result.box == (10, 20, 30, 40) and result.score == 0.875
    assert result.landmarks.tolist() == [[50, 51], [52, 53], [54, 55], [56, 57], [58, 59]]
    assert asked["size"] == (160, 90) and asked["pixel"] == [0, 0, 200] and asked["score"] == 0.8
    monkeypatch.setattr(Stub, "rows", None)
    assert detector(picture) == []


# crops


def dotted(landmarks: np.ndarray[Any, np.dtype[np.float64]]) -> Picture:
    picture = np.zeros((300, 400, 3), np.uint8)
    for channel, (x, y) in enumerate(landmarks[:2]):
        cv2.circle(picture, (round(x), round(y)), 3, [255 * (k == channel) for k in range(3)], -1)
    return picture


def spot(crop: Picture, channel: int) -> tuple[float, float]:
    """Centre of what shines in a channel, as shares of the side."""
    light = crop[..., channel].astype(float)
    y, x = np.indices(light.shape) + 0.5
    return (
        float((x * light).sum() / light.sum() / len(crop)),
        float((y * light).sum() / light.sum() / len(crop)),
    )


@pytest.mark.parametrize("angle", [-30, 0, 20])
@pytest.mark.parametrize("side", [60, 140, 250])
def test_eyes_come_to_their_place_at_any_size_and_turn(angle: int, side: int) -> None:
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = (SHARES - 0.5) @ np.array([[cosine, sine], [-sine, cosine]]) * side + (200, 150)
    turned = np.round(turned)
    box = (200 - side / 2, 150 - side / 2, side, side)
    crop = align(dotted(turned), turned, box, size=112)
    assert crop.shape == (112, 112, 3) and crop.dtype == np.uint8
    assert spot(crop, 0) == pytest.approx((EYES[0] - EYES_APART / 2, EYES[1]), abs=0.02)
    assert spot(crop, 1) == pytest.approx((EYES[0] + EYES_APART / 2, EYES[1]), abs=0.02)


def test_eyes_too_close_are_a_profile_and_the_box_counts() -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    box = (150.0, 80.0, 90.0, 120.0)
    picture[80:200, 150:240] = 255
    narrow = SHARES * (20, 120) + (150, 80)
    crop = align(picture, narrow, box, size=100)
    lit = crop[..., 0] > 127
    assert lit.any(axis=1).sum() == pytest.approx(min(100, 100 * BOX_HEIGHT), abs=1)
    assert lit.any(axis=0).sum() == pytest.approx(100 * BOX_HEIGHT * 90 / 120, abs=2)
    swapped = SHARES[[1, 0, 2, 3, 4]] * 120 + (150, 80)  # eyes the wrong way round
    np.testing.assert_array_equal(align(picture, swapped, box, size=100), crop)


def test_beyond_the_picture_its_edge_is_repeated() -> None:
    picture = np.full((100, 100, 3), 90, np.uint8)
    assert (align(picture, SHARES * 60 - 30, (-30, -30, 60, 60), size=48) == 90).all()


def test_found_faces_are_framed_as_fer2013(mtcnn: MtcnnDetector, face: Picture) -> None:
    for height in (80, 150):
        picture = scene([Person(head(face, height=height), [(0.5, 0.5)])], index=0)
        (result,) = mtcnn(picture)
        crop = align(picture, result.landmarks, result.box, size=160)
        (again,) = mtcnn(np.pad(crop, ((60, 60), (60, 60), (0, 0)), mode="edge"))
        eyes = (again.landmarks[:2] - 60) / 160
        assert eyes[1, 0] - eyes[0, 0] == pytest.approx(EYES_APART, abs=0.03)
        assert eyes.mean(axis=0) == pytest.approx(EYES, abs=0.03)


# the tracker


def walk(*, step_s: float, people: list[tuple[list[float | None], Any]]) -> list[list[int]]:
    """Numbers that a tracker gives people on their ways; each is (x of frames, look)."""
    tracker, numbers = Tracker(), []
    for index in range(len(people[0][0])):
        here = [(way[index], look) for way, look in people if way[index] is not None]
        result = [Detection((x, 50.0, 40.0, 40.0), 1.0, SHARES * 40 + (x, 50)) for x, _ in here]
        looks = [look for _, look in here]
        numbers.append(tracker.update(index * step_s, detections=result, looks=looks))
    return numbers


def look(seed: int) -> Any:
    vector = np.random.default_rng(seed).standard_normal(432)
    return vector / np.linalg.norm(vector)


def test_twins_who_cross_are_told_apart_by_their_motion() -> None:
    way: list[float | None] = [10.0 + 24 * n for n in range(12)]
    numbers = walk(step_s=0.25, people=[(way, look(0)), (way[::-1], look(0))])
    assert numbers == [[0, 1]] * 12


def test_strangers_who_turn_back_where_they_meet_are_told_apart_by_their_looks() -> None:
    there: list[float | None] = [10.0, 50, 90, 130, 145, 105, 65, 25]
    back: list[float | None] = [300.0, 260, 220, 180, 165, 205, 245, 285]
    numbers = walk(step_s=0.25, people=[(there, look(0)), (back, look(1))])
    assert numbers == [[0, 1]] * 8


def test_a_loss_of_a_second_is_bridged_where_motion_leads() -> None:
    way: list[float | None] = [10.0 + 10 * n for n in range(12)]
    way[4:8] = [None] * 4
    assert walk(step_s=0.25, people=[(way, look(0))]) == [[0]] * 4 + [[]] * 4 + [[0]] * 4


def test_after_a_long_loss_only_the_same_looks_are_known_again() -> None:
    gone: list[float | None] = [None] * 10
    here: list[float | None] = [100.0] * 4
    same = walk(step_s=0.25, people=[(here + gone + here, look(0))])
    assert same[-1] == [0]
    other = walk(
        step_s=0.25,
        people=[(here + gone + [None] * 4, look(0)), ([None] * 4 + gone + here, look(1))],
    )
    assert other[-1] == [1]


def test_somebody_else_in_the_same_place_is_somebody_else() -> None:
    before: list[float | None] = [100.0] * 4 + [None] * 4
    assert walk(step_s=0.25, people=[(before, look(0)), (before[::-1], look(1))])[4:] == [[1]] * 4


def test_looks_do_not_depend_on_light(face: Picture) -> None:
    bright = head(face, height=112)[:, :80]
    dim = (bright * 0.5).astype(np.uint8)
    assert appearance_of(bright) @ appearance_of(dim) > 0.99
    assert appearance_of(bright) @ appearance_of(bright[:, ::-1]) < 0.95
    flat = [appearance_of(np.full((112, 112, 3), value, np.uint8)) for value in (0, 200)]
    assert flat[0] @ flat[1] == pytest.approx(1) and abs(flat[0] @ appearance_of(bright)) < 1e-6


def test_the_room_is_light() -> None:
    heavy = ("torch", "cv2", "scipy", "av", "facenet_pytorch")
    code = f"import avser.media.faces, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
