"""Face pictures for clips that have none, by emotion; see `Paired`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avser.data.image_cache import PreparedImages, prepare_images
from avser.emotions import Labels
from avser.errors import ConfigError
from avser.types import Clip, ImageCorpus


@dataclass(frozen=True)
class PairedRow:
    """One picture for all steps of a clip: ``picture [C, H, W]`` uint8."""

    picture: Tensor
    timeless: bool = True

    def cut(self, start: int, steps: int) -> dict[str, Tensor]:
        """``faces [T, 1, C, H, W]`` and ``face_mask [T, 1]``: the same picture in each step."""
        return {
            "faces": self.picture.expand(steps, 1, -1, -1, -1),
            "face_mask": torch.ones(steps, 1, dtype=torch.bool),
        }


@dataclass(frozen=True)
class PairedRows:
    """Pictures of a corpus's clips.

    Attributes:
        classes: of each clip.
        store: prepared pictures.
        training: class to places of training pictures, from which one is drawn each time.
        fixed: place of each clip's own validation picture.
        draw: whether to draw.
    """

    classes: list[str]
    store: PreparedImages
    training: dict[str, list[int]]
    fixed: list[int]
    draw: bool = False
    timeless: bool = True

    def __getitem__(self, index: int) -> PairedRow:
        place = self.fixed[index]
        if self.draw:
            pool = self.training[self.classes[index]]
            place = pool[int(torch.randint(len(pool), ()))]
        return PairedRow(torch.from_numpy(self.store.pixels[place].copy()))

    def for_training(self) -> "PairedRows":
        """The same, drawing training pictures."""
        return PairedRows(self.classes, self.store, self.training, self.fixed, draw=True)


def pair(
    clips: Sequence[Clip],
    pictures: ImageCorpus,
    labels: Labels,
    *,
    size: int = 48,
    progress: Callable[[int, int], None] | None = None,
) -> PairedRows:
    """Assign pictures of its class to every clip.

    Args:
        clips: of the speech corpus.
        pictures: with the owner's parts train and validation.
        labels: merge and selection of classes, for both.
        size: side of the pictures in pixels.
        progress: called as ``(done, total)`` while pictures are decoded.

    Raises:
        ConfigError: a class has no picture in one of the parts.
    """
    rows = [c for c in pictures.clips() if labels(c.emotion) is not None]
    store = prepare_images(pictures, rows, size=size, colour=False, progress=progress)
    pools: dict[str, dict[str, list[int]]] = {"train": {}, "validation": {}}
    for place, row in enumerate(store.clips):
        if row.part in pools:
            pools[row.part].setdefault(str(labels(row.emotion)), []).append(place)
    classes = [str(labels(c.emotion)) for c in clips]
    for part, pool in pools.items():
        missing = sorted(set(classes) - set(pool))
        if missing:
            raise ConfigError(
                f"Bad pairs: {pictures.name} has no {part} picture of {missing[0]}; leave that "
                "class out in data.emotions, or merge it in data.merge."
            )
    # one after the other: clips share a picture only where there are fewer pictures than clips
    count = dict.fromkeys(classes, 0)
    fixed = []
    for name in classes:
        places = pools["validation"][name]
        fixed.append(places[count[name] % len(places)])
        count[name] += 1
    return PairedRows(classes, store, pools["train"], fixed)
