import os
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.errors import ConfigError, MediaError
from avser.media.visual_features import FeatureRows, Features, read_features
from avser.models.encoders.features import FeatureVideoEncoder
from avser.types import Batch, audio_batch


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_row_of_a_table_is_one_vector_for_every_step(tmp_path: Path) -> None:
    path = table(tmp_path / "aus.csv", "AU01_r,AU02_c,pose,name", "0.5,1,9,a", "0.25,0,9,b")
    result = read_features(f"{path}#b")
    assert result.values.tolist() == [[0.25, 0.0]]  # action units alone where a table has them
    assert result.on_grid(3, 4).tolist() == [[0.25, 0.0]] * 4


def test_an_edited_table_is_read_again(tmp_path: Path) -> None:
    path = table(tmp_path / "aus.csv", "AU01_r,name", "0.5,a")
    assert read_features(f"{path}#a").values.tolist() == [[0.5]]
    table(path, "AU01_r,name", "0.75,a")
    os.utime(path, ns=(1, 1))
    assert read_features(f"{path}#a").values.tolist() == [[0.75]]


def test_openface_frames_are_averaged_in_their_steps(tmp_path: Path) -> None:
    path = table(
        tmp_path / "clip.csv",
        "frame, face_id, timestamp, confidence, success, AU01_r, AU02_r",
        "1, 0, 0.000, 0.98, 1, 1.0, 0.0",
        "2, 0, 0.400, 0.98, 1, 3.0, 0.0",
        "3, 0, 0.600, 0.02, 0, 9.0, 9.0",  # the face is lost
        "4, 0, 1.100, 0.98, 1, 5.0, 1.0",
    )
    grid = read_features(str(path)).on_grid(0, 4)
    assert grid[0].tolist() == [2.0, 0.0] and grid[2].tolist() == [5.0, 1.0]
    assert np.isnan(grid[[1, 3]]).all()
    assert np.array_equal(read_features(str(path)).on_grid(2, 1), grid[2:3])


def test_arrays_are_one_vector_or_one_a_step(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", np.arange(3.0))
    np.save(tmp_path / "steps.npy", np.arange(6.0).reshape(3, 2))
    assert read_features(str(tmp_path / "clip.npy")).on_grid(0, 2).tolist() == [[0, 1, 2]] * 2
    grid = read_features(str(tmp_path / "steps.npy")).on_grid(1, 3)
    assert grid[:2].tolist() == [[2, 3], [4, 5]] and np.isnan(grid[2]).all()


@pytest.mark.parametrize(
    ("lines", "where", "why"),
    [
        (["AU01_r,name", "0.5,a"], "x.csv#b", "no row is named 'b'"),
        (["AU01_r", "0.5"], "x.csv#b", "a column 'name'"),
        (["AU01_r,name", "wide,a"], "x.csv#a", "expected numbers"),
        (["AU01_r,name", "nan,a"], "x.csv#a", "not finite"),
        (["AU01_r,name", "1,2,a"], "x.csv#a", "rows as long as it"),
        (["name", "a"], "x.csv#a", "no column holds features"),
        (["AU01_r,frame", "1,2"], "x.csv", "a column 'timestamp'"),
        ([""], "none.csv", "no file"),
        (["text"], "x.npy", "plain array"),
    ],
)
def test_bad_features_are_told_in_a_sentence(
    tmp_path: Path, lines: list[str], where: str, why: str
) -> None:
    table(tmp_path / ("x.npy" if where == "x.npy" else "x.csv"), *lines)
    with pytest.raises(MediaError, match=why):
        read_features(str(tmp_path / where))


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(MediaError, match="plain array"):
        read_features(str(tmp_path / "x.npy"))


def test_rows_enrol_each_speaker_by_the_own_clips() -> None:
    rng = np.random.default_rng(0)
    own = {"a": (5.0, 2.0), "b": (-3.0, 0.1)}
    speakers = [s for s in own for _ in range(50)]
    rows: list[Features | None] = [
        Features(rng.normal(*own[s], (1, 3)).astype(np.float32), None) for s in speakers
    ]
    rows[0] = None
    result = FeatureRows(rows).enrolled(speakers)
    assert result.width == 3 and result.timeless
    for speaker in own:
        values = [
            f.values for s, f in zip(speakers, result.rows, strict=True) if f and s == speaker
        ]
        stacked = np.concatenate(values)
        np.testing.assert_allclose(stacked.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(stacked.std(axis=0), 1, atol=1e-4)
    assert result[0].cut(0, 2)["video_features"].isnan().all()
    with pytest.raises(MediaError, match="one width"):
        FeatureRows([Features(np.zeros((1, n), np.float32), None) for n in (2, 3)])


def test_encoder_takes_clip_statistics_and_leaves_lost_steps_out() -> None:
    torch.manual_seed(0)
    encoder = FeatureVideoEncoder(features=3, dim=4).eval()
    batch = tiny_batch(torch.randn(40, 2, 3) * torch.tensor([1.0, 10.0, 0.0]) + 7)
    encoder.fit_statistics([batch])
    assert encoder.mean.tolist() == pytest.approx([7, 7, 7], abs=2)
    assert encoder.deviation[2] > 0  # a constant is no division by zero
    batch["video_features"][0, 1] = torch.nan
    x, mask = encoder(batch)
    assert x.isfinite().all() and x.shape == (40, 2, 4)
    assert not mask[0, 1] and mask.sum() == 79 and not x[0, 1].any()


def test_encoder_without_a_layer_gives_the_normalised_vectors() -> None:
    encoder = FeatureVideoEncoder(features=2, dim=None).eval()
    batch = tiny_batch(torch.tensor([[[1.0, 10.0]], [[3.0, 30.0]]]))
    encoder.fit_statistics([batch])
    x, _ = encoder(batch)
    offset = 2**-0.5  # (1 - 2) / std(1, 3)
    assert encoder.dim == 2 and not list(encoder.parameters())
    assert x[:, 0].flatten().tolist() == pytest.approx([-offset, -offset, offset, offset])


def test_encoder_refuses_another_width_and_passes_sound_alone() -> None:
    encoder = FeatureVideoEncoder(features=3, dim=4).eval()
    with pytest.raises(ConfigError, match="to 5"):
        encoder(tiny_batch(torch.zeros(1, 2, 5)))
    x, mask = encoder(tiny_batch(torch.zeros(2, 3, 0)))
    assert x.shape == (2, 3, 4) and not mask.any()


def tiny_batch(video_features: torch.Tensor) -> Batch:
    size, steps = video_features.shape[:2]
    batch = audio_batch(torch.zeros(size, steps * 8192), torch.full((size,), steps * 8192))
    batch["video_features"] = video_features
    return batch


@pytest.mark.parametrize("name", ["a" * 300 + ".csv", "a\0b.csv", "x" * 300 + ".csv#row"])
def test_odd_names_are_media_errors(name: str) -> None:
    with pytest.raises(MediaError, match=r"^(Can't read|Bad features) ") as caught:
        read_features(name)
    assert "\0" not in str(caught.value)


def test_a_mark_of_success_that_is_no_number_is_a_media_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("timestamp,success,AU01_r\n0.1,1,0.5\n0.2,,0.5\n")
    assert len(read_features(str(path)).values) == 1
    path.write_text("timestamp,success,AU01_r\n0.1,yes,0.5\n")
    with pytest.raises(MediaError, match="expected numbers"):
        read_features(str(path))
