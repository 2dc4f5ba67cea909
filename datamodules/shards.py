"""Training from shards: prepared clips that are streamed from a folder or a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from avser.data.dataset import ClipDataset, collate
from avser.data.face_cache import FaceRow
from avser.data.splits import Split, clip_name
from avser.distributed.folder import Folder
from avser.distributed.shards import (
    ShardClip,
    StoredClip,
    epoch_batches,
    read_index,
    runs_of,
    stream,
)
from avser.errors import ConfigError
from avser.training.data_module import LabelledDataModule
from avser.types import Batch, Clip, Corpus


class ShardCorpus(Corpus):
    """The corpus that ``avser prepare --shards`` wrote.

    Args:
        root: folder or address (``s3://bucket/ravdess``) of the shards; None takes
            ``$AVSER_DATA/shards``.
    """

    name = "shards"
    title = "Shards"
    licence = "as its owner says"
    url = "avser prepare --shards"
    citation = ""

    def __init__(self, root: str | None = None) -> None:
        super().__init__(None)
        self.folder = Folder(root if root is not None else self.root)
        about, self.stored = read_index(self.folder)
        self.name = about["corpus"]  # type: ignore[misc]  # tables state the corpus itself
        self.licence = about["licence"]  # type: ignore[misc]
        self.languages, self.label_target = tuple(about["languages"]), about["label_target"]
        self.notes = list(about["notes"])
        self.face_size: int | None = about["face_size"]

    def clips(self) -> list[Clip]:
        """List the clips, sorted by name."""
        return sorted((row.clip for row in self.stored), key=clip_name)


@dataclass(frozen=True)
class StoredClips:
    """Clips of shards: those that could not be decoded were left out when they were written."""

    clips: list[Clip]
    failed: list[tuple[Clip, str]]


class ShardedClips(LabelledDataModule):
    """Clips of shards, assigned to parts by a split, and streamed without a local copy.

    Args:
        corpus: the shards.
        split: assigns clips to training, validation and test, as it does those of a cache.
        emotions: classes to keep, after merging; None keeps all that the corpus has.
        merge: emotion to emotion, applied first, for instance ``{calm: neutral}``.
        batch_size: clips a training batch.
        trim: cut quiet edges off training clips.
        crop_s: longest part of a training clip that is taken, in seconds.
        workers: loading processes; with a bucket, two or more hide its latency.
        seed: of the order of training batches.
        video: input besides the sound: none, or the main person's ``faces``.
        max_missing: as of other data modules; shards lack none.

    Raises:
        ConfigError: the split is by chunks, or the shards hold no faces.
    """

    unit_name = "clip"

    def __init__(
        self,
        corpus: ShardCorpus,
        split: Split,
        *,
        emotions: list[str] | None = None,
        merge: dict[str, str] | None = None,
        batch_size: int = 32,
        trim: bool = True,
        crop_s: float | None = 4.0,
        workers: int = 0,
        seed: int = 0,
        video: Literal["none", "faces"] = "none",
        max_missing: float = 0.05,
    ) -> None:
        super().__init__(
            corpus,
            split,
            emotions=emotions,
            merge=merge,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            max_missing=max_missing,
        )
        if split.unit == "chunk":
            raise ConfigError("Bad split: shards hold whole clips; choose one that is by clip.")
        if video == "faces" and corpus.face_size is None:
            raise ConfigError(
                "Bad data.video 'faces': the shards hold no faces; write them with --data.video "
                "faces."
            )
        self.trim, self.crop_s, self.video = trim, crop_s, video
        self._folder, self._face_size = corpus.folder, corpus.face_size or 0
        self._stored = {clip_name(row.clip): row for row in corpus.stored}

    @property
    def prepared(self) -> StoredClips:
        """The clips; they are decoded already."""
        return StoredClips(self.rows, [])

    @property
    def units(self) -> list[Clip]:
        """See `LabelledDataModule.units`."""
        return self.rows

    @property
    def digests(self) -> dict[str, str]:
        """See `LabelledDataModule.digests`."""
        return {name: row.digest for name, row in self._stored.items()}

    def train_dataloader(self) -> ShardLoader:
        """Shuffled batches of clips of similar length, for this process and its loaders."""
        rank, world = self.place
        rows = [self._stored[clip_name(clip)] for clip in self.parts.train]
        each = max(1, self.workers)

        def plan(epoch: int) -> list[list[list[StoredClip]]]:
            lanes = epoch_batches(
                rows, batch_size=self.batch_size, lanes=world * each, seed=self.seed, epoch=epoch
            )
            return lanes[rank * each : (rank + 1) * each]

        trainer = self.trainer
        now = (lambda: trainer.current_epoch) if trainer is not None else None
        return ShardLoader(ShardBatches(self, plan, training=True), workers=self.workers, now=now)

    def loader(self, clips: Sequence[Clip]) -> ShardLoader:
        """See `LabelledDataModule.loader`; in the order of the shards."""
        rows = [self._stored[clip_name(clip)] for clip in clips]
        each = max(1, self.workers)
        lanes: list[list[list[StoredClip]]] = [[] for _ in range(each)]
        ordered = [row for run in runs_of(rows) for row in run]
        for number, start in enumerate(range(0, len(ordered), self.batch_size)):
            lanes[number % each].append(ordered[start : start + self.batch_size])
        return ShardLoader(
            ShardBatches(self, lambda _: lanes, training=False), workers=self.workers, now=None
        )

    def read(self, batches: Sequence[Sequence[StoredClip]], *, training: bool) -> Iterator[Batch]:
        """Stream batches from the shards.

        Args:
            batches: clips of each.
            training: cut and crop them.

        Raises:
            StorageError: a shard can't be read.
        """
        for made in stream(self._folder, batches):
            yield self._batch(made, training=training)

    def _batch(self, made: Sequence[tuple[StoredClip, ShardClip]], *, training: bool) -> Batch:
        clips = [row.clip for row, _ in made]
        faces = [
            FaceRow(Path(clip_name(row.clip)), self._face_size, content=clip.faces)
            if clip.faces is not None
            else FaceRow(None, self._face_size)
            for row, clip in made
        ]
        data = ClipDataset(
            clips,
            waves=[clip.samples for _, clip in made],
            index=range(len(clips)),
            labels=self.label_indices(clips),
            trim=self.trim and training,
            crop_s=self.crop_s if training else None,
            pictures=faces if self.video == "faces" else None,
        )
        return collate([data[i] for i in range(len(data))])


class ShardBatches(IterableDataset[Batch]):
    """Batches of the lanes of this process; a loading process takes the lane of its number.

    Args:
        data: that reads them.
        plan: batches of each lane, by epoch.
        training: see `ShardedClips.read`.

    Attributes:
        epoch: of the next order.
    """

    def __init__(
        self,
        data: ShardedClips,
        plan: Callable[[int], list[list[list[StoredClip]]]],
        *,
        training: bool,
    ) -> None:
        self._data, self._plan, self._training = data, plan, training
        self.epoch = 0
        self._count = sum(map(len, plan(0)))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        lanes, worker = self._plan(self.epoch), get_worker_info()
        batches = lanes[worker.id if worker is not None else 0]
        yield from self._data.read(batches, training=self._training)


class ShardLoader(DataLoader[Batch]):
    """Loads whole batches; every pass is the next epoch.

    Args:
        batches: to load.
        workers: loading processes.
        now: returns the current epoch, for resumed trainings; None counts from 0.
    """

    def __init__(
        self, batches: ShardBatches, *, workers: int, now: Callable[[], int] | None
    ) -> None:
        super().__init__(batches, batch_size=None, num_workers=workers)
        self._batches, self._now, self._next = batches, now, 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # its own iterator's base
        self._batches.epoch = self._next if self._now is None else self._now()
        self._next = self._batches.epoch + 1
        return super().__iter__()
