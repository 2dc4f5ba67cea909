"""The Lightning data module of labelled face pictures."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from avser.batch import LengthSampler, audio_batch
from avser.emotions import Labels, ordered
from avser.encoders.base import AudioEncoder
from avser.errors import ConfigError, CorpusError
from avser.image_store import PreparedImages, prepare_images
from avser.protocols import Parts, Protocol, clip_name
from avser.types import Batch, Clip, ImageCorpus


class ImageBatches(Dataset[Batch]):
    """Whole batches of pictures; an index is the list of a batch's rows.

    Fetching picture by picture would cost more than the network does.

    Args:
        clips: rows.
        pixels: prepared pictures, ``[n, C, H, W]`` uint8.
        index: place of each clip in ``pixels``.
        labels: class index of each clip.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        pixels: NDArray[np.uint8],
        index: Sequence[int],
        labels: Sequence[int],
    ) -> None:
        self.clips = list(clips)
        self._pixels = pixels
        self._index = torch.tensor(index, dtype=torch.long)
        self._labels = torch.tensor(labels, dtype=torch.long)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, rows: list[int]) -> Batch:
        places = self._index[rows]
        faces = torch.from_numpy(np.asarray(self._pixels[places.numpy()]))
        size = len(rows)
        batch = audio_batch(
            torch.zeros(size, 0),
            torch.zeros(size, dtype=torch.long),
            label=self._labels[rows],
            clip_id=[clip_name(self.clips[row]) for row in rows],
        )
        batch["faces"] = faces[:, None, None]  # T = N = 1
        batch["face_mask"] = torch.ones(size, 1, 1, dtype=torch.bool)
        return batch


def _as_it_is(batch: Batch) -> Batch:
    return batch


class ImageDataModule(LightningDataModule):
    """Pictures of a corpus, split by a protocol, decoded once and served in batches.

    A picture is a clip of one step with one face and no sound.

    Args:
        corpus: where the pictures are and what they are labelled.
        protocol: who trains, validates and tests.
        emotions: classes to keep, after merging; None keeps all that the corpus has.
        merge: emotion to emotion, applied first, for instance ``{calm: neutral}``.
        batch_size: pictures a training batch.
        size: side in pixels to which pictures are resized.
        colour: keep three channels; else grey.
        workers: loading processes; reading a memory map needs none.
        seed: of the order of training batches.
    """

    def __init__(
        self,
        corpus: ImageCorpus,
        protocol: Protocol,
        *,
        emotions: list[str] | None = None,
        merge: dict[str, str] | None = None,
        batch_size: int = 128,
        size: int = 48,
        colour: bool = False,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 8 <= size <= 1024:
            raise ConfigError(f"Bad size {size}: legal is 8 to 1024 pixels.")
        self.corpus, self.protocol = corpus, protocol
        self.labels = Labels(tuple(emotions) if emotions is not None else None, merge or {})
        self.batch_size, self.size, self.colour = batch_size, size, colour
        self.workers, self.seed = workers, seed
        self._chosen = emotions
        self._rows: list[Clip] | None = None
        self._prepared: PreparedImages | None = None
        self._parts: Parts | None = None
        self._index: dict[str, int] = {}
        self.progress: Callable[[int, int], None] | None = None
        self.notes: list[str] = []
        self.marks: list[str] = []

    @property
    def rows(self) -> list[Clip]:
        """The corpus's pictures that have a class of the task."""
        if self._rows is None:
            clips = self.corpus.clips()
            word = {emotion: self.labels(emotion) for emotion in {c.emotion for c in clips}}
            self._rows = [c for c in clips if word[c.emotion] is not None]
            if not self._rows:
                raise CorpusError(
                    f"Bad classes: no picture of {self.corpus.name} has one of "
                    f"{', '.join(self._chosen or [])}; choose among the corpus's emotions."
                )
        return self._rows

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        if self._chosen is not None:
            return ordered(self._chosen)
        words = {self.labels(emotion) for emotion in {c.emotion for c in self.rows}}
        return ordered(word for word in words if word is not None)

    @property
    def prepared(self) -> PreparedImages:
        """The decoded pictures; the first use decodes what is not yet in the cache."""
        if self._prepared is None:
            self._prepared = prepare_images(
                self.corpus,
                self.rows,
                size=self.size,
                colour=self.colour,
                progress=self.progress,
            )
            self._index = {clip_name(c): i for i, c in enumerate(self._prepared.clips)}
        return self._prepared

    @property
    def parts(self) -> Parts:
        """The split; copies of one picture are told apart by their pixels."""
        if self._parts is None:
            self._parts = self.protocol.split(self.prepared.clips, self.digests)
        return self._parts

    @property
    def digests(self) -> dict[str, str]:
        """`clip_name` to hash of the pixels."""
        store = self.prepared
        return dict(zip(self._index, store.digests, strict=True))

    def prepare_data(self) -> None:
        """Decode on one process; the others then find the cache filled."""
        _ = self.prepared

    def enrol_voices(self, encoder: AudioEncoder) -> None:
        """Nothing: a picture has no voice."""

    def dataset(self, clips: Sequence[Clip]) -> ImageBatches:
        """Batches of some of the corpus's pictures."""
        store = self.prepared
        place = {name: i for i, name in enumerate(self.classes)}
        label = {c.emotion: place[str(self.labels(c.emotion))] for c in clips}
        return ImageBatches(
            clips,
            pixels=store.pixels,
            index=[self._index[clip_name(c)] for c in clips],
            labels=[label[c.emotion] for c in clips],
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches; each process of a distributed training has its own."""
        data = self.dataset(self.parts.train)
        rank, world = self._place()
        trainer = self.trainer
        sampler = LengthSampler(
            [1] * len(data),
            batch_size=self.batch_size,
            seed=self.seed,
            rank=rank,
            world=world,
            # asked late: a training that goes on learns its epoch after this
            now=(lambda: trainer.current_epoch) if trainer is not None else None,
        )
        return self._loader(data, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation pictures; shared out between processes."""
        rank, world = self._place()
        return self.loader(self.parts.validation[rank::world])

    def loader(self, clips: Sequence[Clip]) -> DataLoader[Batch]:
        """Given pictures, unchanged and in their order."""
        size = 2 * self.batch_size  # no gradients are kept
        rows = [list(range(i, min(i + size, len(clips)))) for i in range(0, len(clips), size)]
        return self._loader(self.dataset(clips), rows)

    def _loader(self, data: ImageBatches, rows: object) -> DataLoader[Batch]:
        # the sampler gives a whole batch's rows, so the loader itself does no batching
        return DataLoader(
            data,
            sampler=rows,  # type: ignore[arg-type]
            batch_size=None,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            num_workers=self.workers,
        )

    def _place(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def class_counts(self) -> list[int]:
        """Training pictures of each class."""
        found = Counter(c.emotion for c in self.parts.train)
        counts: Counter[str | None] = Counter()
        for emotion, count in found.items():
            counts[self.labels(emotion)] += count
        missing = [name for name in self.classes if not counts[name]]
        if missing:
            raise ConfigError(
                f"Bad classes: no training picture is {', '.join(missing)}; remove it from "
                "data.emotions, or choose another split."
            )
        return [counts[name] for name in self.classes]
