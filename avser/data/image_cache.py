"""Prepared pictures: decoded, resized, and read from a memory map in whole batches.

The cache folder holds a file of uint8 pixels and a small table for each corpus and its settings,
named by a hash of the pictures' content. First the pixels are renamed, then the table, when they
are complete: an interrupted preparation is ignored, and concurrent ones write the same. Pixels have
a checksum; a file that fails it is computed again.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avser.data.content import cache_folder, hash_files, unwritable
from avser.errors import CacheError
from avser.files import atomic_write
from avser.types import Clip, ImageCorpus

_LAYOUT = 2
_BLOCK = 1 << 24  # bytes checked at a time


@dataclass(frozen=True)
class PreparedImages:
    """Result of `prepare_images`: usable clips, their pixels, and failed clips with reasons.

    Attributes:
        clips: rows.
        pixels: ``[n, C, H, W]`` uint8, a memory map in the order of ``clips``.
        digests: hash of each picture's pixels; equal for copies of one picture.
        failed: rows that could not be decoded.
    """

    clips: list[Clip]
    pixels: NDArray[np.uint8]
    digests: list[str]
    failed: list[tuple[Clip, str]]


def prepare_images(
    corpus: ImageCorpus,
    clips: Sequence[Clip],
    *,
    size: int,
    colour: bool,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PreparedImages:
    """Decode pictures, unless they are in the cache, and open them.

    Args:
        corpus: whose pictures they are.
        clips: of the corpus.
        size: side in pixels to which every picture is resized, whatever its shape.
        colour: keep three channels; else one, grey.
        folder: of the cache; None is `cache_folder`.
        progress: called as ``(done, total)`` while decoding.

    Raises:
        CacheError: the cache can't be written, or no picture could be decoded.
    """
    shape = (3 if colour else 1, size, size)
    folder = folder or cache_folder()
    path = folder / "images" / f"{_key(clips, shape, folder)}.u8"
    try:
        result = _opened(path, shape)
        if result is None:
            _write(path, corpus, clips, shape, progress)
            result = _opened(path, shape)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    if result is None:
        raise CacheError(f"Bad cache file {path}: it changed while it was read; try again.")
    pixels, failed = result
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in pixels]
    kept = [c for i, c in enumerate(clips) if i not in failed]
    return PreparedImages(kept, pixels, digests, [(clips[i], why) for i, why in failed.items()])


def _key(clips: Sequence[Clip], shape: tuple[int, ...], folder: Path) -> str:
    """Key of the files' content, the rows and the settings."""
    digest = hashlib.blake2b(f"{shape} layout {_LAYOUT}".encode(), digest_size=16)
    hashes = hash_files([clip.path for clip in clips], folder=folder)
    for content in (hashes[path] for path in dict.fromkeys(clip.path for clip in clips)):
        # unreadable files are reported when they are decoded
        digest.update(f"{content if isinstance(content, str) else 'unreadable'}\0".encode())
    for clip in clips:
        digest.update(f"{clip.clip_id}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _opened(path: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """Pixels and reasons of the rows left out, or None where they are missing or damaged."""
    try:
        table: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        count, checksum = int(table["count"]), int(table["crc32"])
        failed = {int(i): str(why) for i, why in table["failed"]}
        pixels = np.memmap(path, np.uint8, mode="r", shape=(count, *shape))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    flat = pixels.reshape(-1)
    result = 0
    for start in range(0, len(flat), _BLOCK):
        result = zlib.crc32(flat[start : start + _BLOCK].tobytes(), result)
    whole = path.stat().st_size == flat.size and result == checksum
    return (pixels, failed) if whole else None


def _write(
    path: Path,
    corpus: ImageCorpus,
    clips: Sequence[Clip],
    shape: tuple[int, ...],
    progress: Callable[[int, int], None] | None,
) -> None:
    failed: list[tuple[int, str]] = []
    checksum = 0
    with atomic_write(path, mode="wb") as file:
        for index, result in enumerate(corpus.pictures(clips)):
            if isinstance(result, str):
                failed.append((index, result))
            else:
                raw = _fitted(result, shape).tobytes()
                checksum = zlib.crc32(raw, checksum)
                file.write(raw)
            if progress is not None and index % 100 == 99:
                progress(index + 1, len(clips))
        if len(failed) == len(clips):
            raise CacheError(
                f"Bad corpus {corpus.root}: none of its {len(clips)} pictures could be decoded; "
                f"the first says: {failed[0][1] if failed else 'there is none'}."
            )
    with atomic_write(path.with_suffix(".json")) as file:
        count = len(clips) - len(failed)
        json.dump({"count": count, "crc32": checksum, "failed": failed}, file)


def _fitted(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bring ``[H, W]`` or ``[H, W, 3]`` to ``[C, size, size]``."""
    import cv2

    channels, size, _ = shape
    if pixels.ndim == 3 and channels == 1:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    if pixels.ndim == 2 and channels == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    if pixels.shape[:2] != (size, size):
        # areas average what is made smaller; what is made larger needs a smooth curve
        method = cv2.INTER_AREA if min(pixels.shape[:2]) >= size else cv2.INTER_CUBIC
        pixels = np.asarray(cv2.resize(pixels, (size, size), interpolation=method), np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
