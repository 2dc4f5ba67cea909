"""Face pictures of one's own, in folders named after emotions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from avser.stores import kind
from avser.types import Clip, ImageCorpus

from ._layout import missing
from ._pictures import clips_of, decoded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ImageFolder(ImageCorpus):
    """Any folder ``[train|validation|test]/LABEL/*.{jpg,png}``, or the ``.tar`` of one.

    A label is a word or an alias of `avser.emotions`; folders of other names are left out.
    Pictures show one face each, cut out as closely as the model is to see them.
    """

    name = "image_folder"
    title = "Image folder"
    licence = "as its owner says"
    url = "your own pictures, one folder an emotion"
    citation = ""
    label_target = "given"

    def clips(self) -> list[Clip]:
        """List the pictures, sorted by ``clip_id`` (``train/angry/anna.png``)."""
        clips = clips_of(self) if kind(self.root) else []
        if not clips:
            raise missing(self, example="angry/anna.jpg or train/angry/anna.jpg")
        return clips

    def pictures(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
        """See `ImageCorpus.pictures`."""
        return decoded(clips)
