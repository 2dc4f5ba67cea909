"""AffectNet: 440,000 faces from the web, each labelled by one person, eight emotions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from avser.errors import CorpusError
from avser.media.suffixes import PICTURE_SUFFIXES
from avser.types import Clip, ImageCorpus

from ._layout import emotion_of, files_below, missing, rows
from ._pictures import box_text, cropped, part_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMOTIONS = {
    "0": "neutral",
    "1": "happy",
    "2": "sad",
    "3": "surprised",
    "4": "fearful",
    "5": "disgust",
    "6": "angry",
    "7": "contempt",
}
_NO_EMOTION = frozenset({"8", "9", "10"})  # none, uncertain, no face
_NEEDED = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression")
_BOX = _NEEDED[1:5]


class AffectNet(ImageCorpus):
    """AffectNet, annotated by hand: pictures, and the tables of their faces' boxes and labels.

    Below the root lie ``training.csv``, ``validation.csv`` and the pictures that their column
    ``subDirectory_filePath`` names, in ``Manually_Annotated_Images/``. Rows that name no emotion
    are left out. The owners keep the test part; their validation part is small and balanced.
    """

    name = "affectnet"
    title = "AffectNet"
    licence = "non-commercial research only, on the owners' terms"
    url = "http://mohammadmahoor.com/affectnet/"
    citation = (
        "Mollahosseini A, Hasani B, Mahoor MH (2019). AffectNet: A Database for Facial Expression, "
        "Valence, and Arousal Computing in the Wild. IEEE Trans. Affective Computing 10(1), 18-31"
    )

    def clips(self) -> list[Clip]:
        """List the faces, sorted by ``clip_id`` (``training/12/ab34.jpg``)."""
        names = ("training.csv", "validation.csv")
        tables = [p for p in files_below(self.root, suffixes=(".csv",)) if p.name in names]
        images = files_below(self.root, suffixes=PICTURE_SUFFIXES)
        pictures = {"/".join(path.parts[-2:]): path for path in reversed(images)}
        clips = [clip for table in tables for clip in self._clips(table, pictures)]
        if not clips:
            raise missing(self, example="training.csv and Manually_Annotated_Images/1/ab.jpg")
        return sorted(clips, key=lambda clip: clip.clip_id)

    def _clips(self, table: PurePath, pictures: Mapping[str, PurePath]) -> Iterator[Clip]:
        for line, row in rows(table):
            if lacking := [name for name in _NEEDED if name not in row]:
                raise CorpusError(
                    f"Bad table {str(table)!r}: it has no column {lacking[0]}; get it anew."
                )
            name, code = row["subDirectory_filePath"], row["expression"]
            path = pictures.get(name)
            if code in _NO_EMOTION or path is None:
                continue
            try:
                x, y, width, height = (float(row[cell]) for cell in _BOX)
            except ValueError as error:
                raise CorpusError(
                    f"Bad line {line} of {str(table)!r}: {error}; expected the face's box in "
                    "pixels; get the table anew."
                ) from error
            yield Clip(
                path=path,
                clip_id=f"{table.stem}/{name}",
                emotion=emotion_of(code, codes=EMOTIONS, path=table),
                speaker="",
                corpus=self.name,
                part=part_of(table.stem),
                attributes={"box": box_text(x, y, x + width, y + height)},
            )

    def pictures(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
        """See `ImageCorpus.pictures`."""
        return cropped(clips)
