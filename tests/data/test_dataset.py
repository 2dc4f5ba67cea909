from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from avser.data.dataset import ClipDataset, LengthSampler, collate, trim_silence
from avser.models.frontends.base import valid_frames
from avser.types import Clip, audio_batch, steps_of

HOP = 160  # 10 ms: what both sides of the trimming count in, where a front end has such a hop


def burst(length: int, *, start: int, stop: int, level: float = 0.3) -> NDArray[np.int16]:
    """Noise from start to stop, and far quieter noise around it."""
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 1e-4, length)
    wave[start:stop] = rng.normal(0, level, stop - start)
    return np.clip(wave * 32767, -32768, 32767).astype(np.int16)


def dataset(lengths: Sequence[int], *, crop_s: float | None = None) -> ClipDataset:
    clips = [
        Clip(path=Path(f"{i}.wav"), clip_id=str(i), emotion="sad", speaker="fake/1", corpus="fake")
        for i in range(len(lengths))
    ]
    waves = [np.full(n, i + 1, np.int16) for i, n in enumerate(lengths)]
    return ClipDataset(
        clips[::-1],
        waves=waves,
        index=list(range(len(lengths)))[::-1],
        labels=list(range(len(lengths))),
        crop_s=crop_s,
    )


# -- batches -------------------------------------------------------------------------------------


def test_a_batch_is_padded_with_zeros_after_each_clip() -> None:
    data = dataset([9000, 20000, 100])
    batch = collate([data[i] for i in range(3)])
    assert batch["clip_id"] == ["fake/2", "fake/1", "fake/0"]
    assert batch["lengths"].tolist() == [100, 20000, 9000]
    assert batch["label"].tolist() == [0, 1, 2]
    assert batch["waveform"].shape == (3, 20000)
    for row, length, value in zip(
        batch["waveform"], batch["lengths"].tolist(), (3, 2, 1), strict=True
    ):
        assert (row[:length] == value / 32768).all() and not row[length:].any()


def test_absent_modalities_are_empty_entries_on_the_same_grid() -> None:
    batch = audio_batch(torch.zeros(2, 20000), torch.tensor([20000, 0]))
    steps = steps_of(20000)
    assert batch["faces"].shape[:3] == (2, steps, 0) and batch["faces"].dtype == torch.uint8
    assert batch["face_mask"].shape == (2, steps, 0)
    assert batch["video_features"].shape == (2, steps, 0)
    assert batch["label"].tolist() == [-1, -1] and batch["clip_id"] == ["", ""]


def test_a_crop_is_a_random_part_of_the_clip() -> None:
    ramp = ClipDataset(
        dataset([50000]).clips, waves=[np.arange(50000).astype(np.int16)], index=[0], labels=[0],
        crop_s=1.0,
    )  # fmt: skip
    starts = set()
    for _ in range(8):
        samples = ramp[0]["samples"]
        assert isinstance(samples, torch.Tensor) and len(samples) == 16000
        starts.add(float(samples[0]))
    assert len(starts) > 4
    whole = dataset([15999], crop_s=1.0)[0]["samples"]
    assert isinstance(whole, torch.Tensor) and len(whole) == 15999


# -- quiet edges ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "stop"), [(8000, 30000), (0, 30000), (8000, 48000), (0, 48000)])
def test_what_is_trimmed_is_what_the_encoder_masks(start: int, stop: int) -> None:
    samples = burst(48000, start=start, stop=stop)
    cut = trim_silence(samples)
    first = next(i for i in range(len(samples)) if np.array_equal(samples[i : i + 400], cut[:400]))
    wave = torch.from_numpy(samples / np.float32(32768))[None]
    mask = valid_frames(wave, torch.tensor([48000]), hop=HOP, below_peak_db=35.0)[0]
    valid = torch.nonzero(mask)[:, 0]
    assert abs(first - int(valid[0]) * HOP) <= HOP
    assert abs(first + len(cut) - (int(valid[-1]) + 1) * HOP) <= HOP
    assert first == max(0, start - 800)  # 50 ms before it
    assert abs(first + len(cut) - min(48000, stop + 800)) < HOP


def test_pauses_stay_and_silence_is_left_alone() -> None:
    samples = np.concatenate([burst(16000, start=4000, stop=8000)] * 2)
    assert len(trim_silence(samples)) == 16000 + 4000 + 2 * 800  # from the first burst to the last
    silent = np.zeros(8000, np.int16)
    assert len(trim_silence(silent)) == 8000
    assert len(trim_silence(silent[:100])) == 100 and len(trim_silence(silent[:0])) == 0


def test_trimming_twice_is_trimming_once() -> None:
    once = trim_silence(burst(48000, start=8000, stop=30000))
    assert np.array_equal(trim_silence(once), once)


# -- order ---------------------------------------------------------------------------------------


def epoch(sampler: LengthSampler) -> list[list[int]]:
    batches = list(sampler)
    assert len(batches) == len(sampler)
    return batches


def test_every_epoch_differs_and_one_seed_gives_the_same_epochs() -> None:
    lengths = [100 * (i % 17) + i for i in range(100)]
    one, same, other = (LengthSampler(lengths, batch_size=8, seed=s) for s in (3, 3, 4))
    epochs = [epoch(one) for _ in range(3)]
    assert epochs == [epoch(same) for _ in range(3)]
    assert len({str(e) for e in (*epochs, epoch(other))}) == 4
    resumed = LengthSampler(lengths, batch_size=8, seed=3)
    resumed.epoch = 2
    assert epoch(resumed) == epochs[2]


def test_batches_hold_clips_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(10000, 60000, 640)
    spread = [np.ptp(lengths[b]) for b in LengthSampler(lengths.tolist(), batch_size=16, pool=8)]
    assert np.mean(spread) < 0.25 * np.ptp(lengths)
    order = [lengths[b].mean() for b in LengthSampler(lengths.tolist(), batch_size=16)]
    assert order != sorted(order)  # the batches themselves are shuffled


@given(
    count=st.integers(1, 90),
    batch_size=st.integers(1, 20),
    world=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_no_clip_comes_twice_and_every_process_gets_as_many(
    count: int, batch_size: int, world: int, seed: int
) -> None:
    lengths = [1000 + 7 * i % 50 for i in range(count)]
    ranks = [
        epoch(LengthSampler(lengths, batch_size=batch_size, seed=seed, rank=r, world=world))
        for r in range(world)
    ]
    seen = [i for batches in ranks for batch in batches for i in batch]
    assert len(seen) == len(set(seen)) and set(seen) <= set(range(count))
    assert len({len(batches) for batches in ranks}) == 1
    assert len({len(batch) for batches in ranks for batch in batches}) <= 1
    size = max(1, min(batch_size, count // world))
    assert count - len(seen) < size * world  # what is dropped is less than a batch each
