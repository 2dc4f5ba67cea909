from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avser.data.face_cache import FaceRow, prepare_faces
from avser.errors import CacheError, StorageError
from avser.media.faces import Detection, MtcnnDetector, detector_settings
from avser.stores import as_path
from avser.testing.media import voice, write_video, write_wav
from avser.types import Clip


class Brightest:
    """A stand-in for a detector: the face is where the picture is white. Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        self.calls += 1
        rows, columns = np.nonzero(image[..., 0] > 180)
        if not len(rows):
            return []
        x, y = float(columns.min()), float(rows.min())
        w, h = float(columns.max()) - x, float(rows.max()) - y
        spots = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.8], [0.65, 0.8]])
        return [Detection((x, y, w, h), 0.99, np.array([x, y]) + spots * np.array([w, h]))]


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """A face for the first of two seconds; no face; sound alone."""
    seen = np.full((20, 96, 128, 3), 60, np.uint8)
    seen[:10, 20:76, 40:84] = np.linspace(190, 250, 56)[:, None, None]  # alike in every frame
    none = np.full((20, 96, 128, 3), 60, np.uint8)
    sound = voice("happy", seconds=2.0)
    films = [
        write_video(tmp_path / f"{i}.mp4", f, samples=sound) for i, f in enumerate((seen, none))
    ]
    wav = write_wav(tmp_path / "2.wav", sound)
    return [
        Clip(
            path=path,
            clip_id=path.stem,
            emotion="happy",
            speaker="x/1",
            corpus="x",
            video=path if path.suffix == ".mp4" else None,
        )
        for path in (*films, wav)
    ]


def test_faces_stand_in_the_steps_in_which_they_are_seen(clips: list[Clip], tmp_path: Path) -> None:
    rows = prepare_faces(clips, detector=Brightest(), folder=tmp_path / "cache")
    cut = rows[0].cut(0, 4)
    assert cut["faces"].shape == (4, 2, 3, 112, 112) and cut["faces"].dtype == torch.uint8
    assert cut["face_mask"].tolist() == [[True, True], [True, True], [False] * 2, [False] * 2]
    assert cut["faces"][0, 0].float().mean() > 120 and not cut["faces"][2:].any()
    later = rows[0].cut(1, 2)
    assert torch.equal(later["faces"], cut["faces"][1:3])
    for row in rows.rows[1:]:
        assert not row.cut(0, 4)["face_mask"].any()
    assert rows.reasons[0].startswith("face found in 4 of ")
    assert rows.reasons[1].startswith("no face found in ") and 2 not in rows.reasons


def test_faces_are_looked_for_once_and_damage_is_mended(clips: list[Clip], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    detector = Brightest()
    first = prepare_faces(clips, detector=detector, folder=folder)
    calls = detector.calls
    recorded: list[tuple[int, int]] = []
    prepare_faces(
        clips, detector=detector, folder=folder, progress=lambda *done: recorded.append(done)
    )
    assert detector.calls == calls and recorded == []
    path = first.rows[0].path
    assert path is not None
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    again = prepare_faces(clips, detector=detector, folder=folder)
    assert detector.calls > calls
    assert torch.equal(again[0].cut(0, 4)["faces"], first[0].cut(0, 4)["faces"])


def test_an_interrupted_search_goes_on(clips: list[Clip], tmp_path: Path) -> None:
    class Stops(Brightest):
        def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
            if self.calls == 8:
                raise KeyboardInterrupt
            return super().__call__(image)

    # the class's name is part of the key: one class, stopped and not
    detector = Stops()
    with pytest.raises(KeyboardInterrupt):
        prepare_faces(clips, detector=detector, folder=tmp_path / "cache")
    detector.calls = 9
    recorded: list[tuple[int, int]] = []
    prepare_faces(
        clips, detector=detector, folder=tmp_path / "cache", progress=lambda *d: recorded.append(d)
    )
    assert recorded == [(1, 1)]  # the first clip was done


def test_other_settings_of_a_detector_make_other_faces(clips: list[Clip], tmp_path: Path) -> None:
    detector = Brightest()
    looked: list[int] = []

    def prepared() -> int:
        looked.clear()
        folder = tmp_path / "cache"
        prepare_faces(
            clips, detector=detector, folder=folder, progress=lambda done, _: looked.append(done)
        )
        return len(looked)

    assert (prepared(), prepared()) == (2, 0)
    detector.settings = "brightest above 200"  # type: ignore[attr-defined]
    assert (prepared(), prepared()) == (2, 0)


def test_the_default_detector_has_the_settings_of_its_class() -> None:
    assert detector_settings(None) == detector_settings(MtcnnDetector())
    changed = [MtcnnDetector(min_face=0.2), MtcnnDetector(thresholds=(0.5, 0.7, 0.7)), Brightest()]
    assert len({detector_settings(d) for d in (None, *changed)}) == 4


def test_a_bad_video_is_a_clip_without_a_face(clips: list[Clip], tmp_path: Path) -> None:
    assert clips[1].video is not None
    clips[1].video.write_bytes(b"no video at all")
    rows = prepare_faces(clips, detector=Brightest(), folder=tmp_path / "cache")
    assert rows[1] == FaceRow(None, 112) and "Can't read" in rows.reasons[1]
    with pytest.raises(CacheError, match="no face in any of 2 clips"):
        prepare_faces(clips[1:], detector=Brightest(), folder=tmp_path / "cache")


def test_a_part_after_the_end_of_a_video_says_so(clips: list[Clip], tmp_path: Path) -> None:
    late = replace(clips[1], start_s=99.0, end_s=None)
    rows = prepare_faces([clips[0], late], detector=Brightest(), folder=tmp_path / "cache")
    assert "its part begins at 99 s, after its end at " in rows.reasons[1]


def test_so_many_crops_of_a_clip_are_drawn(clips: list[Clip], tmp_path: Path) -> None:
    rows = prepare_faces(clips, detector=Brightest(), folder=tmp_path / "cache")
    whole = rows[0].cut(0, 4)
    for seed in range(6):
        few = rows.sampled(3, seed=seed)[0].cut(0, 4)
        assert int(few["face_mask"].sum()) == 3 < int(whole["face_mask"].sum())
        assert not (few["face_mask"] & ~whole["face_mask"]).any()
        shown = few["face_mask"]
        assert torch.equal(few["faces"][shown], whole["faces"][shown])
        assert torch.equal(shown, rows.sampled(3, seed=seed)[0].cut(0, 4)["face_mask"])
        parts = [rows.sampled(3, seed=seed)[0].cut(start, 2)["face_mask"] for start in (0, 2)]
        assert torch.equal(torch.cat(parts), shown)  # the same ones, cut as it may be
    drawn = {tuple(rows.sampled(1, seed=s)[0].cut(0, 4)["face_mask"].flatten()) for s in range(9)}
    assert len({tuple(map(bool, d)) for d in drawn}) > 1
    assert int(rows.sampled(99, seed=0)[0].cut(0, 4)["face_mask"].sum()) == 4
    assert not rows.sampled(2, seed=0)[1].cut(0, 4)["face_mask"].any()


def test_faces_of_videos_in_a_store_are_those_of_their_copies(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    films = [clip for clip in clips if clip.video is not None]
    store.pipe({f"/faces/{clip.path.name}": Path(clip.path).read_bytes() for clip in films})
    there = [as_path(f"memory://faces/{clip.path.name}") for clip in films]
    remote = [replace(c, path=p, video=p) for c, p in zip(films, there, strict=True)]
    gone = as_path("memory://faces/none.mp4")
    remote.append(replace(remote[0], clip_id="none", path=gone, video=gone))
    try:
        rows = prepare_faces(remote, detector=Brightest(), folder=tmp_path / "cache")
        here = prepare_faces(films, detector=Brightest(), folder=tmp_path / "cache")
        assert torch.equal(rows[0].cut(0, 4)["faces"], here[0].cut(0, 4)["faces"])
        assert rows.reasons[0] == here.reasons[0]
        assert rows.reasons[2].startswith("Can't read memory://faces/none.mp4: there is no such")
        monkeypatch.setattr(fsspec, "open", None)  # nothing is read again
        again = prepare_faces(remote, detector=Brightest(), folder=tmp_path / "cache")
        assert again.reasons == rows.reasons
        expired = type("ExpiredToken", (Exception,), {})  # as stores' packages name it

        def refuse(name: str, mode: str) -> None:
            raise expired("The provided token has expired.")

        monkeypatch.setattr(fsspec, "open", refuse)
        with pytest.raises(StorageError, match=r"^Can't read memory://faces/0\.mp4: The provided"):
            prepare_faces(remote, detector=Brightest(), folder=tmp_path / "other")
    finally:
        store.store.clear()
