"""Blendshapes of videos, and the tables that hold them."""

from collections.abc import Sequence
from pathlib import Path

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from avser.cli import main
from avser.datamodules.corpora.ravdess import Ravdess
from avser.distributed import engine
from avser.errors import ConfigError, MediaError
from avser.media import blendshapes
from avser.media.blendshapes import (
    ACTION_UNITS,
    FeatureTable,
    MediaPipeLandmarker,
    action_units,
    blendshapes_of,
)
from avser.media.visual_features import Features, read_features
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.media import voice, write_video, write_wav
from avser.types import STEP_S

NAMES = tuple(dict.fromkeys(name for names in ACTION_UNITS.values() for name in names))


class Brightness:
    """Takes a picture's brightness for every blendshape; a black one shows no face."""

    names: Sequence[str] = NAMES

    def __init__(self, model: Path | None = None) -> None:
        self.closed = False

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        level = float(image.mean()) / 255
        return np.full(len(NAMES), level, np.float32) if level > 0.1 else None

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey for a step, black for a step, then bright, at 125 frames in 16 s: 4 a step."""
    levels = np.repeat([100, 0, 200], 4).astype(np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (12, 64, 64, 3)).copy()
    path = tmp_path_factory.mktemp("videos") / "01-01-03-01-01-01-01.mp4"
    return write_video(path, images, fps=4 / STEP_S)


def test_a_step_has_the_mean_of_its_frames_and_none_where_no_face_is(video: Path) -> None:
    features = blendshapes_of(video, Brightness())
    assert features.times_s is not None
    assert features.times_s.tolist() == pytest.approx([0.5 * STEP_S, 2.5 * STEP_S])
    np.testing.assert_allclose(features.values[:, 0], [100 / 255, 200 / 255], atol=0.02)
    grid = features.on_grid(0, 3)
    assert np.isnan(grid[1]).all() and not np.isnan(grid[[0, 2]]).any()


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", voice("sad", seconds=0.5))
    with pytest.raises(MediaError, match="it has no picture; leave it out"):
        blendshapes_of(path, Brightness())


def test_a_table_gives_each_clip_its_rows(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    rows = {
        "a": Features(values[:2], np.array([0.256, 0.768])),
        "empty": Features(values[:0], np.zeros(0)),
        "b": Features(values[2:], np.array([1.28])),
    }
    path = tmp_path / "table.npz"
    FeatureTable(("x", "y"), rows).save(path)
    for key, row in rows.items():
        got = read_features(f"{path}#{key}")
        np.testing.assert_array_equal(got.values, row.values)
        np.testing.assert_array_equal(got.times_s, row.times_s)
    with pytest.raises(MediaError, match="no rows are named 'c' among 3"):
        read_features(f"{path}#c")
    path.write_bytes(b"no table")
    with pytest.raises(MediaError, match="expected a table of avser features"):
        read_features(f"{path}#a")


def test_action_units_are_the_mean_of_both_sides() -> None:
    values = np.arange(len(NAMES), dtype=np.float32)[None]
    table = action_units(FeatureTable(NAMES, {"a": Features(values, np.array([0.256]))}))
    assert table.names[:3] == ("AU01_r", "AU02_r", "AU04_r") and len(table.names) == 15
    smile = [NAMES.index(f"mouthSmile{side}") for side in ("Left", "Right")]
    got = table.rows["a"].values[0, table.names.index("AU12_r")]
    assert got == pytest.approx(sum(smile) / 2)


def test_the_command_writes_what_a_corpus_reads(
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(blendshapes, "MediaPipeLandmarker", Brightness)
    bad = tmp_path / "in" / "sound.wav"
    write_wav(bad, voice("sad", seconds=0.5))
    out = tmp_path / "T.npz"
    words = ["features", str(video), str(bad.parent), "--landmarker", "none.task", "--out"]
    assert main([*words, str(out)]) == 1
    printed = capsys.readouterr().out
    assert f"{out}: {len(NAMES)} values of 2 steps in 1 clips" in printed
    assert f"left out: Bad clip {bad}: it has no picture" in printed
    root = fake_ravdess(tmp_path / "ravdess", speakers=1, per_emotion=1)
    clips = Ravdess(root, features=out).clips()
    taken = [clip for clip in clips if clip.features is not None]
    assert [clip.clip_id for clip in taken] == ["03-01-03-01-01-01-01"]
    assert read_features(str(taken[0].features)).values.shape == (2, len(NAMES))
    assert main([*words, str(tmp_path / "T.csv")]) == 1
    assert "expected a name that ends in .npz" in capsys.readouterr().err


def test_an_interrupted_table_goes_on_and_names_are_unique(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(blendshapes, "MediaPipeLandmarker", Brightness)
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(video.read_bytes())
    places = [f"{tmp_path}/a.mp4", "memory://x/b.mp4", f"{tmp_path}/c.mp4"]
    (tmp_path / "list.txt").write_text("\n".join(places))
    fsspec.filesystem("memory").pipe("/x/b.mp4", video.read_bytes())
    out, log = tmp_path / "T.npz", tmp_path / "T.npz.part.jsonl"
    words = ["features", "--list", str(tmp_path / "list.txt"), "--landmarker", "x.task"]
    words += ["--out", str(out)]
    computed: list[int] = []
    compute = blendshapes_of

    def interrupted(path: Path, landmarker: Brightness) -> Features:
        computed.append(1)
        if len(computed) == 3:
            assert log.read_bytes().count(b"\n") == 3  # settings, and a row of each finished clip
            raise KeyboardInterrupt
        return compute(path, landmarker)

    monkeypatch.setattr(blendshapes, "blendshapes_of", interrupted)
    assert main(words) == 130
    assert f"the same command goes on from {log}" in capsys.readouterr().err and not out.exists()
    assert main(words) == 0 and len(computed) == 4 and not log.exists()
    for name in "abc":
        np.testing.assert_array_equal(
            read_features(f"{out}#{name}").values, compute(video, Brightness()).values
        )
    assert main([*words, str(video.parent), str(tmp_path / "a.mp4"), f"{tmp_path}/./a.mp4"]) == 1
    assert "Bad names: a is the name of several files" in capsys.readouterr().err


def test_workers_of_a_cluster_write_the_table_of_one_process(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blendshapes, "MediaPipeLandmarker", Brightness)
    monkeypatch.setattr(
        engine, "on_ray", lambda worker, settings, items, *, cluster: engine.local(
            worker, settings, reversed(items)
        )
    )  # fmt: skip
    for number in range(10):
        (tmp_path / f"{number}.mp4").write_bytes(video.read_bytes())
    tables = {}
    for name in ("local", "ray"):
        out = tmp_path / f"{name}.npz"
        words = ["features", str(tmp_path), "--landmarker", "x.task", "--out", str(out)]
        assert main([*words, "--engine", name]) == 0
        tables[name] = dict(np.load(out))
    assert tables["ray"]["keys"].tolist() == [str(number) for number in range(10)]
    for key, values in tables["local"].items():
        np.testing.assert_array_equal(tables["ray"][key], values)


def test_a_landmarker_without_its_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blendshapes, "require", lambda *_: None)
    with pytest.raises(ConfigError, match=r"there is no such file; get face_landmarker\.task from"):
        MediaPipeLandmarker(tmp_path / "face_landmarker.task")
