"""FER+: the pictures of FER2013, labelled anew by ten people each, eight emotions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from avser.errors import CorpusError
from avser.stores import kind
from avser.types import Clip, ImageCorpus

from ._layout import missing, rows
from ._pictures import part_of
from .fer2013 import table_pixels, table_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Columns of votes, in the owners' order.
EMOTIONS = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprised",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fearful",
    "contempt": "contempt",
}
_OTHER = ("unknown", "NF")  # NF: no face


class FerPlus(ImageCorpus):
    """FER+: the owners' ``fer2013new.csv`` beside Kaggle's ``fer2013.csv``, below the root.

    Its rows are Kaggle's, in their order. The label is the emotion with most votes, the first
    column of equals; pictures that most people call unknown or no face are left out. All votes are
    the attribute ``votes``, from which ``data.soft_labels`` trains.
    """

    name = "ferplus"
    title = "FER+"
    licence = "labels MIT (Microsoft); pictures research only, Kaggle's terms of FER2013"
    url = "https://github.com/microsoft/FERPlus"
    citation = (
        "Barsoum E, Zhang C, Canton Ferrer C, Zhang Z (2016). Training Deep Networks for Facial "
        "Expression Recognition with Crowd-Sourced Label Distribution. ICMI 2016. arXiv:1608.01041"
    )

    def clips(self) -> list[Clip]:
        """List the pictures, sorted by ``clip_id`` (the line in ``fer2013.csv``)."""
        pictures, labels = self.root / "fer2013.csv", self.root / "fer2013new.csv"
        if not kind(pictures) == kind(labels) == "file":
            raise missing(self, example="fer2013new.csv and fer2013.csv")
        lines = [line for line, _ in table_rows(pictures)]
        votes = rows(labels)
        if len(lines) != len(votes):
            raise CorpusError(
                f"Bad table {str(labels)!r}: it has {len(votes)} rows and {pictures.name} "
                f"{len(lines)}; get both anew from their owners."
            )
        clips = [
            clip
            for line, (at, row) in zip(lines, votes, strict=True)
            if (clip := self._clip(pictures, line, _votes(labels, at, row), row)) is not None
        ]
        return sorted(clips, key=lambda clip: clip.clip_id)

    def _clip(
        self, pictures: PurePath, line: int, votes: dict[str, int], row: dict[str, str]
    ) -> Clip | None:
        best = max(votes, key=lambda name: votes[name])
        if best in _OTHER:
            return None
        given = {EMOTIONS[name]: n for name, n in votes.items() if n and name in EMOTIONS}
        return Clip(
            path=pictures,
            clip_id=f"{line:06d}",
            emotion=EMOTIONS[best],
            speaker="",
            corpus=self.name,
            part=part_of(row.get("Usage", "")),
            attributes={"votes": " ".join(f"{name}:{n}" for name, n in given.items())},
        )

    def pictures(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
        """See `ImageCorpus.pictures`."""
        return table_pixels(clips)


def _votes(path: PurePath, line: int, row: dict[str, str]) -> dict[str, int]:
    names = (*EMOTIONS, *_OTHER)
    if not all(row.get(name, "").isdigit() for name in names):
        raise CorpusError(
            f"Bad line {line} of {str(path)!r}: expected a number of votes in each of the columns "
            f"{', '.join(names)}; get the table anew."
        )
    return {name: int(row[name]) for name in names}
