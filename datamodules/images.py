"""The Lightning data module of labelled face pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from avser.data.image_cache import PreparedImages, prepare_images
from avser.data.splits import Split, clip_name
from avser.errors import ConfigError
from avser.training.data_module import LabelledDataModule
from avser.types import Batch, Clip, ImageCorpus, audio_batch


class ImageBatches(Dataset[Batch]):
    """Whole batches of pictures; an index is the list of a batch's rows.

    Fetching picture by picture would take longer than the network.

    Args:
        clips: rows.
        pixels: prepared pictures, ``[n, C, H, W]`` uint8.
        index: place of each clip in ``pixels``.
        labels: class index of each clip.
        shares: ``[n, K]`` votes of each clip by class, summing to 1; None has none.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        pixels: NDArray[np.uint8],
        index: Sequence[int],
        labels: Sequence[int],
        shares: NDArray[np.float32] | None = None,
    ) -> None:
        self.clips = list(clips)
        self._pixels = pixels
        self._index = torch.tensor(index, dtype=torch.long)
        self._labels = torch.tensor(labels, dtype=torch.long)
        self._shares = None if shares is None else torch.from_numpy(shares)

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
        if self._shares is not None:
            batch["label_shares"] = self._shares[rows]
        return batch


def _as_it_is(batch: Batch) -> Batch:
    return batch


class ImageDataModule(LabelledDataModule):
    """Pictures of a corpus, decoded once, assigned to parts by a split, and served in batches.

    A picture is a clip of one step with one face and no sound.

    Args:
        corpus: where the pictures are and what they are labelled.
        split: assigns pictures to training, validation and test.
        emotions: classes to keep, after merging; None keeps all that the corpus has.
        merge: emotion to emotion, applied first, for instance ``{calm: neutral}``.
        batch_size: pictures a training batch.
        size: side in pixels to which pictures are resized.
        colour: keep three channels; else grey.
        workers: loading processes; reading a memory map needs none.
        seed: of the order of training batches.
        max_missing: share of the pictures that may be left out because they can't be decoded.
        soft_labels: train on the shares of people's votes (the attribute ``votes`` of FER+), and
            not on the label that most gave; figures are always of the label.
    """

    unit_name = "picture"
    corpus: ImageCorpus

    def __init__(
        self,
        corpus: ImageCorpus,
        split: Split,
        *,
        emotions: list[str] | None = None,
        merge: dict[str, str] | None = None,
        batch_size: int = 128,
        size: int = 48,
        colour: bool = False,
        workers: int = 0,
        seed: int = 0,
        max_missing: float = 0.05,
        soft_labels: bool = False,
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
        if not 8 <= size <= 1024:
            raise ConfigError(f"Bad size {size}: legal is 8 to 1024 pixels.")
        self.size, self.colour, self.soft_labels = size, colour, soft_labels
        self._prepared: PreparedImages | None = None
        self._index: dict[str, int] = {}

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
    def units(self) -> list[Clip]:
        """Pictures."""
        return self.prepared.clips

    @property
    def digests(self) -> dict[str, str]:
        """`clip_name` to hash of the pixels."""
        store = self.prepared
        return dict(zip(self._index, store.digests, strict=True))

    def dataset(self, clips: Sequence[Clip]) -> ImageBatches:
        """Batches of some of the corpus's pictures."""
        store = self.prepared
        return ImageBatches(
            clips,
            pixels=store.pixels,
            index=[self._index[clip_name(c)] for c in clips],
            labels=self.label_indices(clips),
            shares=self._shares(clips) if self.soft_labels else None,
        )

    def _shares(self, clips: Sequence[Clip]) -> NDArray[np.float32]:
        """Shares of votes ``[n, K]``, summing to 1; zeros for clips without a vote for a class."""
        place = {name: i for i, name in enumerate(self.classes)}
        counts = np.zeros((len(clips), len(place)), np.float32)
        for row, clip in zip(counts, clips, strict=True):
            for vote in clip.attributes.get("votes", "").split():
                emotion, _, count = vote.partition(":")
                index = place.get(str(self.labels(emotion)))
                if index is not None:
                    row[index] += int(count)
        if len(clips) and not counts.any():
            raise ConfigError(
                f"Bad soft_labels: pictures of {self.corpus.name} have no votes; leave it out, or "
                "take ferplus."
            )
        shares: NDArray[np.float32] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return shares

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches, for this process."""
        data = self.dataset(self.parts.train)
        return self._loader(data, self.sampler([1] * len(data)))

    def loader(self, clips: Sequence[Clip]) -> DataLoader[Batch]:
        """See `LabelledDataModule.loader`; in the order given."""
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
