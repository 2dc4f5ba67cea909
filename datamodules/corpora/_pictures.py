"""Pictures below a folder or in a tar, named ``[PART/]LABEL/NAME``, and their pixels."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING

from avser.emotions import canonical
from avser.errors import ConfigError, CorpusError, MediaError
from avser.media.suffixes import PICTURE_SUFFIXES
from avser.stores import kind, local_copy, read_bytes
from avser.types import Clip, Corpus

from ._layout import files_below

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "publictest": "validation",  # as Kaggle's table says
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}

_JUNK = re.compile(r"(^|/)(\.|__MACOSX/)")


def part_of(word: str) -> str | None:
    """The part that a folder's or a table's word means, or None."""
    return PARTS.get(re.sub(r"[\s_-]", "", word.lower()))


def emotion_or_none(word: str) -> str | None:
    """The vocabulary's word for a folder's name, or None where it is no emotion."""
    try:
        return canonical(word)
    except ConfigError:
        return None


def members(path: PurePath) -> list[str]:
    """Names of the files in a tar.

    Raises:
        CorpusError: it can't be read.
    """
    try:
        with local_copy(path) as file, tarfile.open(file) as archive:
            return [member.name for member in archive if member.isfile()]
    except (OSError, tarfile.TarError, EOFError) as error:
        why = str(error).partition("\n")[0].rstrip(":")  # the rest tells each kind of packing
        raise CorpusError(
            f"Bad archive {str(path)!r}: {why}; expected a whole .tar file; get it anew."
        ) from error


def clips_of(corpus: Corpus) -> list[Clip]:
    """Pictures whose folder is named after an emotion, below the root or in the tar that it is.

    The folder above, if it is named after a part, gives the part. Pictures elsewhere are no rows.
    """
    root = corpus.root
    if kind(root) == "folder":
        result = [
            (p.relative_to(root).as_posix(), p)
            for p in files_below(root, suffixes=PICTURE_SUFFIXES)
        ]
    else:
        result = [(n, root) for n in members(root) if not _JUNK.search(n.removeprefix("./"))]
    clips = [c for name, path in result if (c := _clip(corpus, name, path)) is not None]
    if len({c.clip_id for c in clips}) < len(clips):  # one name in several folders
        clips = [c for n, p in result if (c := _clip(corpus, n, p, whole=True)) is not None]
    return sorted(clips, key=lambda clip: clip.clip_id)


def _clip(corpus: Corpus, name: str, path: PurePath, *, whole: bool = False) -> Clip | None:
    place = PurePosixPath(name)
    emotion = emotion_or_none(place.parent.name)
    if emotion is None or place.suffix.lower() not in PICTURE_SUFFIXES:
        return None
    part = part_of(place.parent.parent.name)
    # the folders above those that matter differ between copies of a corpus
    first = 0 if whole else -3 if part is not None else -2
    return Clip(
        path=path,
        clip_id="/".join(place.parts[first:]),
        emotion=emotion,
        speaker="",
        corpus=corpus.name,
        part=part,
        attributes={"member": name} if path == corpus.root else {},
    )


def decoded(clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
    """Pixels of clips of `clips_of`, in order; of a damaged picture the reason."""
    archives: dict[PurePath, _Archive] = {}
    try:
        for clip in clips:
            member = clip.attributes.get("member")
            try:
                if member is None:
                    raw = read_bytes(clip.path)
                else:
                    if clip.path not in archives:
                        archives[clip.path] = _Archive(clip.path)
                    raw = archives[clip.path].read(member)
            except (OSError, MediaError, KeyError, tarfile.TarError, EOFError) as error:
                yield f"it can't be read ({error})"
                continue
            yield decode(raw)
    finally:
        for archive in archives.values():
            archive.close()


def listed(path: PurePath, *, cells: int) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row of a list without header, whose cells are parted by spaces.

    Raises:
        CorpusError: it can't be read, or a row has another number of cells.
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"Bad list {str(path)!r}: {error}; get it anew.") from error
    for number, line in enumerate(lines, start=1):
        row = line.split()
        if row and len(row) != cells:
            raise CorpusError(
                f"Bad line {number} of {str(path)!r}: it has {len(row)} cells, expected {cells}; "
                "get the list anew."
            )
        if row:
            yield number, row


def box_text(left: float, top: float, right: float, bottom: float) -> str:
    """A face's box in pixels, as the attribute ``box`` of a clip."""
    return f"{left:g} {top:g} {right:g} {bottom:g}"


def cropped(clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
    """The faces in the boxes of clips, in order; of a damaged picture the reason."""
    for clip, pixels in zip(clips, decoded(clips), strict=True):
        if isinstance(pixels, str):
            yield pixels
            continue
        left, top, right, bottom = (round(float(v)) for v in clip.attributes["box"].split())
        face = pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        yield face if face.size else f"its box {clip.attributes['box']} lies outside the picture"


class _Archive:
    """A tar whose files are found at once: tarfile itself looks through all names every time."""

    def __init__(self, path: PurePath) -> None:
        with ExitStack() as stack:
            self._file = stack.enter_context(tarfile.open(stack.enter_context(local_copy(path))))
            self._members = {member.name: member for member in self._file}
            self.close = stack.pop_all().close

    def read(self, name: str) -> bytes:
        """Content of a file."""
        file = self._file.extractfile(self._members[name])
        return file.read() if file is not None else b""


def decode(raw: bytes) -> NDArray[np.uint8] | str:
    """Pixels ``[H, W]`` or ``[H, W, 3]`` (RGB) of an encoded picture, upright, or what is wrong."""
    import cv2
    import numpy as np

    try:
        pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_ANYCOLOR) if raw else None
    except cv2.error:
        pixels = None
    if pixels is None:
        return "it is no picture that can be decoded"
    if pixels.dtype != np.uint8:
        return f"it has {8 * pixels.itemsize} bits a channel, 8 are legal"
    # OpenCV's order is blue, green, red
    return np.asarray(pixels if pixels.ndim == 2 else pixels[..., ::-1], np.uint8)
