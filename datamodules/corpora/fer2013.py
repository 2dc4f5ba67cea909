"""FER2013: 35,887 faces of 48 x 48 grey pixels found on the web, seven emotions."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from avser.errors import CorpusError
from avser.stores import kind, local_copy
from avser.types import Clip, ImageCorpus

from ._layout import missing
from ._pictures import clips_of, decoded, part_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Kaggle's numbers, in their order.
EMOTIONS = ("angry", "disgust", "fearful", "happy", "sad", "surprised", "neutral")
SIDE = 48  # pixels


class Fer2013(ImageCorpus):
    """FER2013 as folders, as the tar of them, or as Kaggle's table.

    The root is a folder ``train|validation|test/{angry,disgust,fear,...}/*.jpg`` (or one above
    it), the ``.tar`` of it, ``fer2013.csv`` with the columns emotion, pixels and Usage, or a
    folder that holds ``fer2013.tar`` or ``fer2013.csv``. Kaggle's PublicTest is the validation
    part, PrivateTest the test part. Labels are noisy: people agree with about 65 % of them.
    """

    name = "fer2013"
    title = "FER2013"
    licence = "research only, Kaggle's terms of the challenge"
    url = "https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge"
    citation = (
        "Goodfellow IJ et al. (2013). Challenges in Representation Learning: A report on three "
        "machine learning contests. ICONIP 2013. arXiv:1307.0414"
    )

    def clips(self) -> list[Clip]:
        """List the pictures, sorted by ``clip_id`` (``train/angry/Training_1.jpg``)."""
        self.root = self._place()
        if kind(self.root) is None:
            raise self._missing()
        if self.root.suffix.lower() == ".csv":
            clips = sorted(_table(self.root), key=lambda clip: clip.clip_id)
        else:
            clips = clips_of(self)
        if not clips:
            raise self._missing()
        return clips

    def pictures(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
        """See `ImageCorpus.pictures`."""
        if clips and clips[0].path.suffix.lower() == ".csv":
            return table_pixels(clips)
        return decoded(clips)

    def _place(self) -> PurePath:
        """What the root is, or holds; ``ROOT.tar`` and ``ROOT.csv`` beside it count too."""
        suffixes = (".tar", ".csv")
        if kind(self.root) == "folder":
            inside = [self.root / f"{self.name}{suffix}" for suffix in suffixes]
            return next((path for path in inside if kind(path) == "file"), self.root)
        beside = [self.root.with_suffix(suffix) for suffix in suffixes]
        result = [path for path in beside if not self.root.suffix and kind(path) == "file"]
        return self.root if kind(self.root) == "file" or not result else result[0]

    def _missing(self) -> CorpusError:
        return missing(self, example="train/angry/*.jpg, fer2013.tar or fer2013.csv")


def table_rows(path: PurePath) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and cells of each row of Kaggle's table."""
    csv.field_size_limit(max(csv.field_size_limit(), min(sys.maxsize, 1 << 24)))
    try:
        with local_copy(path) as copy, copy.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            if not {"emotion", "pixels"} <= set(header):
                raise CorpusError(
                    f"Bad table {str(path)!r}: its columns are {','.join(header) or 'none'}; "
                    "expected Kaggle's emotion,pixels,Usage."
                )
            for cells in filter(None, reader):
                yield reader.line_num, dict(zip(header, cells, strict=False))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(
            f"Bad table {str(path)!r}: {error}; expected a CSV file of UTF-8 text."
        ) from error


def _table(path: PurePath) -> Iterator[Clip]:
    for line, row in table_rows(path):
        code = row["emotion"].strip()
        if code not in {str(i) for i in range(len(EMOTIONS))}:
            raise CorpusError(
                f"Bad line {line} of {str(path)!r}: emotion {code!r}, legal is 0 to 6; get the "
                "table anew."
            )
        usage = row.get("usage", "").strip()
        if usage and part_of(usage) is None:
            raise CorpusError(
                f"Bad line {line} of {str(path)!r}: Usage {usage!r}, legal is Training, "
                "PublicTest or PrivateTest; get the table anew."
            )
        yield Clip(
            path=path,
            clip_id=f"{line:06d}",
            emotion=EMOTIONS[int(code)],
            speaker="",
            corpus=Fer2013.name,
            part=part_of(usage) if usage else None,
        )


def table_pixels(clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
    """Pictures of clips of Kaggle's table, whose ``clip_id`` is the line there."""
    import numpy as np

    wanted = {int(clip.clip_id): clip for clip in clips}
    result: dict[int, NDArray[np.uint8] | str] = {}
    for line, row in table_rows(clips[0].path):
        if line in wanted:
            words = row.get("pixels", "").split()
            if len(words) != SIDE * SIDE or not all(w.isdigit() and int(w) < 256 for w in words):
                result[line] = f"line {line} does not hold 2304 grey levels from 0 to 255"
                continue
            result[line] = np.array(words, dtype=np.uint8).reshape(SIDE, SIDE)
    for line in wanted:
        yield result.get(line, f"line {line} is not there")
