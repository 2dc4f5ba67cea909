"""Datasets over prepared clips, their collation, and a sampler. Imports no Lightning."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from avser.data.splits.base import clip_name
from avser.media.samples import from_16_bit
from avser.types import SAMPLE_RATE, STEP_SAMPLES, Batch, Clip, audio_batch, steps_of

Item = Mapping[str, object]


def trim_silence(samples: NDArray[np.int16], *, below_peak_db: float = 35.0) -> NDArray[np.int16]:
    """Cut quiet edges; see `loud_span`."""
    first, last = loud_span(samples, below_peak_db=below_peak_db)
    return samples[first:last]


def loud_span(samples: NDArray[np.int16], *, below_peak_db: float = 35.0) -> tuple[int, int]:
    """First and last sample of a clip without its quiet edges, keeping 50 ms of them.

    The edges are those that `avser.models.frontends.base.valid_frames` masks. Cutting them in
    training gives the same result for half the computation.
    """
    hop = SAMPLE_RATE // 100
    count = len(samples) // hop
    if count < 2:
        return 0, len(samples)
    offset = samples.mean(dtype=np.float64).astype(np.float32)
    frames = (samples[: count * hop].astype(np.float32) - offset).reshape(count, hop)
    power = np.square(frames).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-below_peak_db / 10))
    if not len(loud):
        return 0, len(samples)
    margin = int(0.05 * SAMPLE_RATE)
    first, last = int(loud[0]) * hop - margin, (int(loud[-1]) + 1) * hop + margin
    return max(0, first), min(len(samples), last)


class VisualItems(Protocol):
    """Visual items of a data set, by index."""

    def __getitem__(self, index: int, /) -> "VisualItem":
        """The visual item of a clip."""


class VisualItem(Protocol):
    """One clip's face crops, or precomputed vectors, on the step grid."""

    @property
    def timeless(self) -> bool:
        """Whether all steps have the same vector, so that the sound may be cut anywhere."""

    def cut(self, start: int, steps: int) -> Mapping[str, Tensor]:
        """Entries of a batch for the steps from ``start``.

        ``faces [T, N, C, H, W]`` with ``face_mask [T, N]``, or ``video_features [T, F]``.
        """


class PreparedFeatures(Protocol):
    """Prepared features of clips; see `avser.data.feature_store.ClipFeatures`."""

    @property
    def ready(self) -> bool:
        """Whether they are computed; until then, samples are used."""

    def views(self, name: str) -> int:
        """Return the number of degraded views of a clip."""

    def read(self, name: str, view: int = 0) -> tuple[Tensor, Tensor]:
        """Return ``features [C, M, F]`` and ``mask [F]`` of a clip; view 0 is the clip itself."""


class ClipDataset(Dataset[Item]):
    """Clips with their samples and class indices.

    Args:
        clips: rows.
        waves: prepared samples, ``[S] int16`` each.
        index: place of each clip in ``waves``.
        spans: first and last sample of each clip in what is prepared, the first at a whole step;
            None takes all.
        labels: class index of each clip; -1 = unlabelled.
        trim: cut quiet edges.
        crop_s: take a random part of at most this many seconds; None takes all.
        pictures: visual items, by a clip's place in ``waves``; None for sound alone. Clips with a
            video are cut at whole steps, so that sound and picture stay aligned.
        references: statistics ``[2, C, M]`` of each enrolled speaker.
        features: prepared features, which replace the samples; quiet edges are then cut at whole
            steps, and ``crop_s`` is ignored.
        teacher: prepared features of a teacher's encoder, of the same view, not cut.
        views: index of each row's view of the clip, 0 being the clip itself; None draws a view each
            time. Without ``views`` all rows are the clips themselves.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        waves: Sequence[NDArray[np.int16]],
        index: Sequence[int],
        labels: Sequence[int],
        spans: Sequence[tuple[int, int]] | None = None,
        trim: bool = False,
        crop_s: float | None = None,
        pictures: VisualItems | None = None,
        references: Mapping[str, Tensor] | None = None,
        features: PreparedFeatures | None = None,
        teacher: PreparedFeatures | None = None,
        views: Sequence[int | None] | None = None,
    ) -> None:
        self.clips = list(clips)
        self.labels = list(labels)
        self._waves = waves
        self._index = list(index)
        self._spans = spans
        self._trim = trim
        self._crop = None if crop_s is None else int(crop_s * SAMPLE_RATE)
        self._pictures = pictures
        # the same mapping, empty or not: it is filled after the loaders are made
        self._references = {} if references is None else references
        self._features, self._teacher, self._views = features, teacher, views

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Item:
        place, clip = self._index[index], self.clips[index]
        samples = self._waves[place]
        begin = 0
        if self._spans is not None:
            begin, end = self._spans[index]
            samples = samples[begin:end]
        picture = self._pictures[place] if self._pictures is not None else None
        prepared = self._features is not None and self._features.ready  # then nothing is cut
        first, last = 0, len(samples)
        if self._trim and not prepared:
            first, last = loud_span(samples)
        if self._crop is not None and last - first > self._crop and not prepared:
            first += int(torch.randint(last - first - self._crop + 1, ()))
            last = first + self._crop
        if picture is not None and not picture.timeless:
            first = first // STEP_SAMPLES * STEP_SAMPLES
        samples = samples[first:last]
        item: dict[str, object] = {
            "samples": torch.from_numpy(from_16_bit(samples)),
            "label": self.labels[index],
            "clip_id": clip_name(clip),
        }
        if self._features is not None and self._features.ready:
            item |= self._prepared(self._features, index, steps=max(1, steps_of(len(samples))))
        if picture is not None:
            item |= picture.cut((begin + first) // STEP_SAMPLES, max(1, steps_of(len(samples))))
        if self._references:  # a speaker without one is NaN: the encoder falls back
            unknown = torch.full_like(next(iter(self._references.values())), torch.nan)
            item["speaker_statistics"] = self._references.get(clip.speaker, unknown)
        return item

    def _prepared(self, features: PreparedFeatures, index: int, *, steps: int) -> Item:
        """Entries of a clip's prepared features; its samples are not needed."""
        name = clip_name(self.clips[index])
        view = 0 if self._views is None else self._views[index]
        if view is None:
            view = int(torch.randint(features.views(name) + 1, ()))
        values, mask = features.read(name, view)
        item = {"samples": torch.zeros(0), "audio_features": values, "audio_mask": mask}
        if self._trim and mask.any() and self._pictures is None:
            item |= _trimmed(values, mask, frames=len(mask) // steps)
        if self._teacher is not None and self._teacher.ready:
            item["teacher_features"], item["teacher_mask"] = self._teacher.read(name, view)
        return item


def _trimmed(features: Tensor, mask: Tensor, *, frames: int) -> dict[str, Tensor]:
    """Steps from the first to the last that has a valid frame, of so many frames each."""
    valid = mask.nonzero().flatten()
    first, last = int(valid[0]) // frames * frames, (int(valid[-1]) // frames + 1) * frames
    return {"audio_features": features[..., first:last], "audio_mask": mask[first:last]}


def collate(items: Sequence[Item]) -> Batch:
    """Pad items to one batch; absent modalities are empty entries."""
    waves = [s for s in (item["samples"] for item in items) if isinstance(s, Tensor)]
    lengths = torch.tensor([len(w) for w in waves])
    longest = max(1, int(lengths.max()))
    waveform = torch.zeros(len(waves), longest)
    for row, wave in zip(waveform, waves, strict=True):
        row[: len(wave)] = wave
    batch = audio_batch(
        waveform,
        lengths,
        label=torch.tensor([int(str(item["label"])) for item in items]),
        clip_id=[str(item["clip_id"]) for item in items],
    )
    for name, fill in (("video_features", torch.nan), ("faces", 0), ("face_mask", False)):
        parts = [part for item in items if isinstance(part := item.get(name), Tensor)]
        if parts:
            # a clip whose picture is missing has an empty tensor of the others' shape
            batch[name] = pad_sequence(parts, batch_first=True, padding_value=fill)  # type: ignore[literal-required]
    for whose in ("audio", "teacher"):
        values, valid = f"{whose}_features", f"{whose}_mask"
        features = [x for item in items if isinstance(x := item.get(values), Tensor)]
        if features:  # frames first, as padding is of the first axis
            frames = pad_sequence([x.movedim(-1, 0) for x in features], batch_first=True)
            batch[values] = frames.movedim(1, -1)  # type: ignore[literal-required]
            masks = [mask for item in items if isinstance(mask := item[valid], Tensor)]
            batch[valid] = pad_sequence(masks, batch_first=True)  # type: ignore[literal-required]
    references = [r for item in items if isinstance(r := item.get("speaker_statistics"), Tensor)]
    if references:
        batch["speaker_statistics"] = torch.stack(references)
    return batch


def equal_corpora(clips: Sequence[Clip]) -> list[Clip]:
    """Repeat the clips of smaller corpora, so that each has as many rows as the largest.

    Each corpus is repeated as a whole; the remainder is chosen evenly from its list.
    """
    by_corpus: dict[str, list[Clip]] = {}
    for clip in clips:
        by_corpus.setdefault(clip.corpus, []).append(clip)
    most = max(map(len, by_corpus.values()), default=0)
    rows: list[Clip] = []
    for own in by_corpus.values():
        rounds, rest = divmod(most, len(own))
        rows += own * rounds + [own[i * len(own) // rest] for i in range(rest)]
    return rows


class LengthSampler(Sampler[list[int]]):
    """Batches of clips of similar length, to reduce padding.

    Clips are shuffled, cut into pools of several batches, and sorted by length inside each pool;
    then the batches are shuffled. Every epoch has another order, from one seed. Pools are small,
    because length correlates with speaker and emotion, and homogeneous batches give poor batch-norm
    statistics.

    Args:
        lengths: samples of each clip.
        batch_size: clips a batch; the last incomplete batch is dropped.
        seed: of the shuffles.
        pool: batches that are sorted together.
        rank, world: number of this process, and of all; every process gets the same number of
            batches.
        now: returns the current epoch, for resumed trainings; None counts from 0.
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
