"""Datasets over prepared clips, and batches of them. Knows no Lightning."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from avser.types import SAMPLE_RATE, Batch, Clip, steps_of

Item = Mapping[str, object]


def trim_silence(samples: NDArray[np.int16], *, below_peak_db: float = 35.0) -> NDArray[np.int16]:
    """Cut quiet edges, keeping 50 ms, as `avser.frontends.base.valid_frames` masks them.

    Training cuts what the network would mask: the same result for half the arithmetic.
    """
    hop = SAMPLE_RATE // 100
    count = len(samples) // hop
    if count < 2:
        return samples
    frames = samples[: count * hop].astype(np.float32).reshape(count, hop)
    power = np.square(frames).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-below_peak_db / 10))
    if not len(loud):
        return samples
    margin = int(0.05 * SAMPLE_RATE)
    return samples[max(0, loud[0] * hop - margin) : (loud[-1] + 1) * hop + margin]


class ClipDataset(Dataset[Item]):
    """Clips with their samples and class indices.

    Args:
        clips: rows.
        waves: prepared samples, ``[S] int16`` each.
        index: place of each clip in ``waves``.
        labels: class index of each clip; -1 = unlabelled.
        trim: cut quiet edges.
        crop_s: take a random part of at most so many seconds; None takes all.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        waves: Sequence[NDArray[np.int16]],
        index: Sequence[int],
        labels: Sequence[int],
        trim: bool = False,
        crop_s: float | None = None,
    ) -> None:
        self.clips = list(clips)
        self.labels = list(labels)
        self._waves = waves
        self._index = list(index)
        self._trim = trim
        self._crop = None if crop_s is None else int(crop_s * SAMPLE_RATE)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Item:
        samples = self._waves[self._index[index]]
        if self._trim:
            samples = trim_silence(samples)
        if self._crop is not None and len(samples) > self._crop:
            start = int(torch.randint(len(samples) - self._crop + 1, ()))
            samples = samples[start : start + self._crop]
        return {
            "samples": torch.from_numpy(samples.astype(np.float32) / 32768.0),
            "label": self.labels[index],
            "clip_id": f"{self.clips[index].corpus}/{self.clips[index].clip_id}",
        }


def collate(items: Sequence[Item]) -> Batch:
    """Pad items to one batch; absent modalities are empty entries."""
    waves = [s for s in (item["samples"] for item in items) if isinstance(s, Tensor)]
    lengths = torch.tensor([len(w) for w in waves])
    longest = max(1, int(lengths.max()))
    waveform = torch.zeros(len(waves), longest)
    for row, wave in zip(waveform, waves, strict=True):
        row[: len(wave)] = wave
    return audio_batch(
        waveform,
        lengths,
        label=torch.tensor([int(str(item["label"])) for item in items]),
        clip_id=[str(item["clip_id"]) for item in items],
    )


def audio_batch(
    waveform: Tensor,
    lengths: Tensor,
    *,
    label: Tensor | None = None,
    clip_id: list[str] | None = None,
) -> Batch:
    """A batch of sound alone from ``waveform [B, S]`` and ``lengths [B]``."""
    size, steps = len(waveform), max(1, steps_of(waveform.shape[1]))
    return Batch(
        waveform=waveform,
        lengths=lengths,
        faces=torch.zeros(size, steps, 0, 3, 0, 0, dtype=torch.uint8),
        face_mask=torch.zeros(size, steps, 0, dtype=torch.bool),
        video_features=torch.zeros(size, steps, 0),
        label=torch.full((size,), -1) if label is None else label,
        clip_id=[""] * size if clip_id is None else clip_id,
    )


class LengthSampler(Sampler[list[int]]):
    """Batches of clips of like length, so that little is computed on padding.

    Clips are shuffled, cut into pools of several batches, and sorted by length inside each pool;
    then the batches are shuffled. Every epoch differs, from one seed. Pools are small: length tells
    speakers and emotions apart, and batches of one kind are a poor estimate for batch norm.

    Args:
        lengths: samples of each clip.
        batch_size: clips a batch; the last incomplete batch is dropped.
        seed: of the shuffles.
        pool: batches that are sorted together.
        rank, world: this process and their number; every process gets as many batches.
        now: tells the epoch whose order is due, for a training that goes on; None counts by itself.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_size: int,
        seed: int = 0,
        pool: int = 2,
        rank: int = 0,
        world: int = 1,
        now: Callable[[], int] | None = None,
    ) -> None:
        self._lengths = np.asarray(lengths)
        self.batch_size = max(1, min(batch_size, len(lengths) // world))
        self._seed = seed
        self._pool = pool * self.batch_size
        self._rank, self._world = rank, world
        self._now = now
        self.epoch = 0  # of the next order

    def __len__(self) -> int:
        return len(self._lengths) // (self.batch_size * self._world)

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.epoch if self._now is None else self._now()
        self.epoch = epoch + 1
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(len(self._lengths))[: len(self) * self._world * self.batch_size]
        batches: list[list[int]] = []
        for start in range(0, len(order), self._pool):
            pool = order[start : start + self._pool]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            batches += [
                pool[i : i + self.batch_size].tolist() for i in range(0, len(pool), self.batch_size)
            ]
        mine = rng.permutation(len(batches))[self._rank :: self._world]
        yield from (batches[i] for i in mine)
