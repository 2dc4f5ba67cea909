"""RAF-DB: 15,339 faces from the web, labelled by 40 people each, seven emotions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from avser.media.suffixes import PICTURE_SUFFIXES
from avser.types import Clip, ImageCorpus

from ._layout import emotion_of, files_below, missing
from ._pictures import decoded, listed, part_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMOTIONS = {
    "1": "surprised",
    "2": "fearful",
    "3": "disgust",
    "4": "happy",
    "5": "sad",
    "6": "angry",
    "7": "neutral",
}
_LIST = "list_patition_label.txt"  # as the owners spell it


class RafDb(ImageCorpus):
    """RAF-DB, basic emotions: ``Image/aligned/train_00001_aligned.jpg`` and a list of labels.

    The list is ``EmoLabel/list_patition_label.txt``; both lie below the root, at any depth. Where
    there are no aligned pictures, ``original/train_00001.jpg`` serve as they are.
    """

    name = "raf_db"
    title = "RAF-DB"
    licence = "non-commercial research only, on the owners' terms"
    url = "http://www.whdeld.cn/raf/model1.html"
    citation = (
        "Li S, Deng W, Du J (2017). Reliable Crowdsourcing and Deep Locality-Preserving Learning "
        "for Expression Recognition in the Wild. CVPR 2017, 2584-2593"
    )

    def clips(self) -> list[Clip]:
        """List the pictures, sorted by ``clip_id`` (``train_00001``)."""
        table = next(
            (p for p in files_below(self.root, suffixes=(".txt",)) if p.name == _LIST), None
        )
        if table is None:
            raise missing(self, example=f"EmoLabel/{_LIST} and Image/aligned/*.jpg")
        pictures = {p.stem: p for p in files_below(self.root, suffixes=tuple(PICTURE_SUFFIXES))}
        clips = []
        for _, (name, code) in listed(table, cells=2):
            stem = name.rpartition(".")[0]
            path = pictures.get(f"{stem}_aligned") or pictures.get(stem)
            if path is None:
                continue
            clips.append(
                Clip(
                    path=path,
                    clip_id=stem,
                    emotion=emotion_of(code, codes=EMOTIONS, path=table),
                    speaker="",
                    corpus=self.name,
                    part=part_of(stem.partition("_")[0]),
                )
            )
        if not clips:
            raise missing(self, example="Image/aligned/train_00001_aligned.jpg")
        return sorted(clips, key=lambda clip: clip.clip_id)

    def pictures(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
        """See `ImageCorpus.pictures`."""
        return decoded(clips)
