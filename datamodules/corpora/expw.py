"""ExpW: 91,793 faces from the web, seven emotions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from avser.media.suffixes import PICTURE_SUFFIXES
from avser.types import Clip, ImageCorpus

from ._layout import emotion_of, files_below, missing
from ._pictures import box_text, cropped, listed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMOTIONS = {
    "0": "angry",
    "1": "disgust",
    "2": "fearful",
    "3": "happy",
    "4": "sad",
    "5": "surprised",
    "6": "neutral",
}
_LIST = "label.lst"


class ExpW(ImageCorpus):
    """ExpW: ``label/label.lst`` and the pictures that it names, anywhere below the root.

    A row is a picture's name, the number of a face in it, the face's box (top, left, right,
    bottom), the detector's confidence and the label. The owners name no parts, so that a random
    split has to be asked for by its name.
    """

    name = "expw"
    title = "ExpW"
    licence = "non-commercial research only, on the owners' terms"
    url = "http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html"
    citation = (
        "Zhang Z, Luo P, Loy CC, Tang X (2018). From Facial Expression Recognition to "
        "Interpersonal Relation Prediction. Int. J. Computer Vision 126, 550-569"
    )

    def clips(self) -> list[Clip]:
        """List the faces, sorted by ``clip_id`` (``angry_face_1.jpg/0``)."""
        lists = files_below(self.root, suffixes=(".lst",))
        table = next((p for p in lists if p.name == _LIST), None)
        if table is None:
            raise missing(self, example=f"label/{_LIST} and image/origin/*.jpg")
        pictures = {p.name: p for p in files_below(self.root, suffixes=tuple(PICTURE_SUFFIXES))}
        clips = []
        for _, (name, face, top, left, right, bottom, _, code) in listed(table, cells=8):
            if name not in pictures:
                continue
            clips.append(
                Clip(
                    path=pictures[name],
                    clip_id=f"{name}/{face}",
                    emotion=emotion_of(code, codes=EMOTIONS, path=table),
                    speaker="",
                    corpus=self.name,
                    attributes={
                        "box": box_text(float(left), float(top), float(right), float(bottom))
                    },
                )
            )
        if not clips:
            raise missing(self, example="image/origin/angry_face_1.jpg")
        return sorted(clips, key=lambda clip: clip.clip_id)

    def pictures(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
        """See `ImageCorpus.pictures`."""
        return cropped(clips)
