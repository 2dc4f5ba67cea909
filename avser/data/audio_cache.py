"""Prepared audio: decoded and resampled once, then read from a memory map.

One folder (``AVSER_CACHE``, or the user's cache folder) holds an SQLite index and segments of
int16 samples. A clip's key is a hash of its file's content, its part of the file and the settings:
a corpus that is moved, filtered or mixed with another is not decoded again.
Every process appends to its own segment, and adds a clip to the index when its samples are on disk.
Interrupted preparation can therefore be resumed, and several processes can prepare at once. Samples
have a checksum; a clip that fails it is decoded again.
"""

import hashlib
import os
import sqlite3
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from avser.data.content import cache_folder, content_hash, hash_files, open_table, unwritable
from avser.errors import AvserError, CacheError, StorageError
from avser.media.reader import check_start, read_audio
from avser.media.samples import to_16_bit
from avser.stores import local_copy
from avser.types import SAMPLE_RATE, Clip

_SETTINGS = f"int16 mono {SAMPLE_RATE} Hz, layout 3"
_COMMIT_S = 1.0  # an interrupted preparation loses at most this much work

_SCHEMA = """CREATE TABLE IF NOT EXISTS clips (
    key TEXT PRIMARY KEY, segment TEXT NOT NULL, start INTEGER NOT NULL, count INTEGER NOT NULL,
    checksum INTEGER NOT NULL, digest TEXT NOT NULL)"""


def clip_key(clip: Clip, *, content: str | None = None) -> str:
    """Key of a clip: the content of its file, its part of it, and the settings.

    Args:
        clip: row of a corpus.
        content: hash of the file, where it is known.

    Raises:
        CacheError, MediaError, StorageError, ConfigError: as `content_hash`.
    """
    content = content or content_hash(clip.path)
    text = f"{content} {clip.start_s} {clip.end_s} {_SETTINGS}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class _Row:
    segment: str
    start: int
    count: int
    checksum: int
    digest: str


class AudioCache(Sequence[NDArray[np.int16]]):
    """Prepared clips in a fixed order; item i is ``[S] int16``, read from the memory map.

    Attributes:
        lengths: samples of each clip.
        digests: hash of each clip's samples; equal for duplicate recordings.
    """

    def __init__(self, folder: Path, rows: Sequence[_Row]) -> None:
        self._folder = folder
        self._rows = list(rows)
        self._maps: dict[str, NDArray[np.int16]] = {}
        self.lengths = [row.count for row in rows]
        self.digests = [row.digest for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> NDArray[np.int16]:  # type: ignore[override]
        row = self._rows[index]
        if row.segment not in self._maps:
            self._maps[row.segment] = np.memmap(self._folder / row.segment, np.int16, mode="r")
        return self._maps[row.segment][row.start : row.start + row.count]

    def __getstate__(self) -> dict[str, object]:
        # pickling a map would copy its data to each worker process
        return {**self.__dict__, "_maps": {}}

    def intact(self, index: int) -> bool:
        """Whether the samples are there and match their checksum."""
        row = self._rows[index]
        try:
            samples = self[index]
        except (OSError, ValueError):
            return False
        return len(samples) == row.count and zlib.crc32(samples.tobytes()) == row.checksum


@dataclass(frozen=True)
class Prepared:
    """Result of `prepare`: usable clips, their samples, and failed clips with reasons."""

    clips: list[Clip]
    waves: AudioCache
    failed: list[tuple[Clip, str]]


def _keys(clips: Sequence[Clip], folder: Path, workers: int) -> tuple[list[str], dict[str, str]]:
    """Keys of the clips; unreadable ones get a placeholder, which maps to the reason."""
    keys: list[str] = []
    failed: dict[str, str] = {}
    hashes = hash_files([clip.path for clip in clips], folder=folder, workers=workers)
    for index, clip in enumerate(clips):
        content = hashes[clip.path]
        if isinstance(content, str):
            keys.append(clip_key(clip, content=content))
        else:
            keys.append(f"unreadable {index}")
            failed[keys[-1]] = str(content)
    return keys, failed


def _rows(connection: sqlite3.Connection, keys: Iterable[str]) -> dict[str, _Row]:
    result: dict[str, _Row] = {}
    wanted = list(dict.fromkeys(keys))
    for i in range(0, len(wanted), 500):  # SQLite's limit on placeholders is 999 in old builds
        part = wanted[i : i + 500]
        marks = ",".join("?" * len(part))
        query = (
            f"SELECT key, segment, start, count, checksum, digest FROM clips WHERE key IN ({marks})"
        )
        for key, *values in connection.execute(query, part):
            result[key] = _Row(*values)
    return result


def _decode(clip: Clip) -> NDArray[np.int16]:
    with local_copy(clip.path) as path:
        samples = read_audio(path, start_s=clip.start_s, end_s=clip.end_s)
        if not len(samples):
            check_start(path, clip.start_s)
    if not len(samples):
        raise CacheError(f"Bad clip {clip.path}: it has no sound; leave it out.")
    return to_16_bit(samples)


def _decoded(
    clips: dict[str, Clip], workers: int
) -> Iterator[tuple[str, NDArray[np.int16] | AvserError]]:
    def work(key: str) -> tuple[str, NDArray[np.int16] | AvserError]:
        try:
            return key, _decode(clips[key])
        except StorageError:  # no clip of that store can be read
            raise
        except AvserError as error:
            return key, error

    keys = iter(clips)
    with ThreadPoolExecutor(workers) as pool:
        # bounded: results do not pile up in memory
        waiting = deque(pool.submit(work, key) for key in islice(keys, 8 * workers))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, key) for key in islice(keys, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def prepare(
    clips: Sequence[Clip],
    *,
    folder: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Decode what is not yet prepared, and open all of it.

    Args:
        clips: rows of a corpus.
        folder: of the cache; None is `cache_folder`.
        workers: decoding threads; None is one a core.
        progress: called as ``(done, total)`` over the clips that had to be decoded.

    Raises:
        CacheError: the cache can't be written, or no clip could be decoded.
        StorageError: a store can't be reached or refuses the credential; what is decoded is kept.
    """
    folder = folder or cache_folder()
    workers = workers or os.cpu_count() or 1
    connection = open_table(folder / "index.sqlite", _SCHEMA)
    keys, failed = _keys(clips, folder, workers)
    try:
        rows = _rows(connection, keys)
        store = AudioCache(folder, list(rows.values()))
        damaged = [key for i, key in enumerate(rows) if not store.intact(i)]
        with connection:
            connection.executemany("DELETE FROM clips WHERE key = ?", [(key,) for key in damaged])
        for key in damaged:
            del rows[key]
        todo = {k: c for k, c in zip(keys, clips, strict=True) if k not in rows and k not in failed}
        if todo:
            failed |= _append(connection, folder, todo, workers, progress)
            rows = _rows(connection, keys)
    except (OSError, sqlite3.Error) as error:
        raise unwritable(folder, error) from error
    finally:
        connection.close()
    usable = [(c, rows[k]) for k, c in zip(keys, clips, strict=True) if k in rows]
    # equal files are decoded once: the reason then names another file of the same content
    reasons = [
        (c, failed.get(k, "").replace(str(todo.get(k, c).path), str(c.path)))
        for k, c in zip(keys, clips, strict=True)
        if k not in rows
    ]
    if clips and not usable:
        raise CacheError(
            f"Bad corpus: none of its {len(clips)} clips could be decoded; the first says: "
            f"{reasons[0][1]}"
        )
    return Prepared([c for c, _ in usable], AudioCache(folder, [r for _, r in usable]), reasons)


def _append(
    connection: sqlite3.Connection,
    folder: Path,
    todo: dict[str, Clip],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, str]:
    failed: dict[str, str] = {}
    segment = f"{uuid.uuid4().hex}.i16"
    start = 0
    written: list[tuple[str, str, int, int, int, str]] = []
    committed = monotonic()
    with (folder / segment).open("wb") as file:

        def commit() -> None:
            """Add the written clips to the index; not after each, since it waits for the disk."""
            file.flush()
            with connection:
                insert = "INSERT OR IGNORE INTO clips VALUES (?,?,?,?,?,?)"
                connection.executemany(insert, written)
            written.clear()

        try:
            for done, (key, result) in enumerate(_decoded(todo, workers), 1):
                if isinstance(result, AvserError):
                    failed[key] = str(result)
                else:
                    raw = result.tobytes()
                    file.write(raw)
                    digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
                    written.append((key, segment, start, len(result), zlib.crc32(raw), digest))
                    start += len(result)
                if monotonic() - committed > _COMMIT_S:
                    commit()
                    committed = monotonic()
                if progress is not None:
                    progress(done, len(todo))
        finally:
            commit()
    return failed
