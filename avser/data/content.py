"""Hashes of file contents, cached by path, size and modification times; and the cache folder.

Keys of prepared data depend on whole contents: any change of a file gives another key, and a corpus
that is moved keeps its keys. Hashing everything at each start would be slow, so hashes are cached;
one is valid while path, size, mtime and ctime are unchanged. Files in stores are not read for their
keys: address, size and version (ETag or date) stand for the content.
"""

import hashlib
import os
import sqlite3
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

from filelock import FileLock

from avser.errors import AvserError, CacheError, MediaError
from avser.files import expand_home
from avser.stores import Address, local_copy, version

_SCHEMA = """CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL,
    inode_changed INTEGER NOT NULL, digest TEXT NOT NULL)"""
_BUSY_S = 60  # waits for other processes
_LOOKUPS = 16  # requests to stores at once; they wait for the network, not for a core

Stat = tuple[int, int, int]  # size, mtime in ns, ctime in ns


def cache_folder() -> Path:
    """Folder of prepared data: ``$AVSER_CACHE``, or ``avser`` in the user's cache folder."""
    if "AVSER_CACHE" in os.environ:
        return expand_home(os.environ["AVSER_CACHE"])
    from platformdirs import user_cache_path

    return user_cache_path("avser")


def open_table(path: Path, schema: str) -> sqlite3.Connection:
    """Open an SQLite file with a table; a damaged one is renamed and replaced by a new one.

    Several processes may do so at once; a lock lets one of them replace a damaged file.

    Raises:
        CacheError: the folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=_BUSY_S):
            try:
                return _healthy(path, schema)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                # all of it can be computed again; an old journal would corrupt the new file
                name = f"{path.stem}.damaged-{uuid.uuid4().hex[:8]}"
                for tail in ("", "-journal", "-wal", "-shm"):
                    damaged = path.with_name(path.name + tail)
                    if damaged.exists():
                        os.replace(damaged, path.with_name(name + tail))
                return _healthy(path, schema)
    except (OSError, sqlite3.Error) as error:
        raise unwritable(path.parent, error) from error


def _healthy(path: Path, schema: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S)
    try:
        connection.execute(schema)
        (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if health != "ok":
            raise sqlite3.DatabaseError(health)
    except BaseException:
        connection.close()
        raise
    return connection


def unwritable(folder: Path, error: OSError | sqlite3.Error) -> CacheError:
    """Return the error of a cache folder that can't be used."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return CacheError(
        f"Bad cache {folder}: {why}; set AVSER_CACHE to a folder that can be written."
    )


def content_hash(path: PurePath) -> str:
    """Hash of a whole file (BLAKE2b, 32 digits).

    Of a file in a store, the address and the version are hashed, where the store states one: the
    content would have to be copied at each start.

    Raises:
        CacheError: the file can't be read.
        MediaError, StorageError, ConfigError: its address can't be read.
    """
    if isinstance(path, Address):
        stated = version(path)
        if stated is not None:
            return hashlib.blake2b(f"{path} {stated}".encode(), digest_size=16).hexdigest()
    digest = hashlib.blake2b(digest_size=16)
    try:
        with local_copy(path) as copy, copy.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def hash_files(
    paths: Iterable[PurePath], *, folder: Path | None = None, workers: int | None = None
) -> dict[PurePath, str | AvserError]:
    """Hash files, or return their cached hashes.

    Args:
        paths: files; one that is named twice is hashed once.
        folder: of the cache; None is `cache_folder`.
        workers: reading threads; None is one a core.

    Returns:
        The hash of each file, or why it can't be read.

    Raises:
        CacheError: the cache can't be written.
        StorageError, ConfigError: a store can't be reached or opened.
    """
    home = folder or cache_folder()
    results: dict[PurePath, str | AvserError] = {}
    stats: dict[PurePath, Stat] = {}
    distinct = dict.fromkeys(paths)
    addresses = [path for path in distinct if isinstance(path, Address)]
    with ThreadPoolExecutor(_LOOKUPS) as pool:
        results.update(zip(addresses, pool.map(_hash_or_error, addresses), strict=True))
    for path in (path for path in distinct if path not in results):
        try:
            stat = os.stat(path)
            stats[path] = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        except (OSError, ValueError) as error:
            results[path] = _unreadable(path, error)
    connection = open_table(home / "files.sqlite", _SCHEMA)
    try:
        # bytes: a name need not be UTF-8
        names = {path: os.fsencode(Path(path).absolute()) for path in stats}
        query = "SELECT size, changed, inode_changed, digest FROM files WHERE path = ?"
        todo = []
        for path, now in stats.items():
            row = connection.execute(query, (names[path],)).fetchone()
            if row is not None and row[:3] == now:
                results[path] = row[3]
            else:
                todo.append(path)
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            for path, result in zip(todo, pool.map(_hash_or_error, todo), strict=True):
                results[path] = result
        rows = [
            (names[path], *stats[path], results[path])
            for path in todo
            if isinstance(results[path], str)
        ]
        with connection:
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?)", rows)
    except (OSError, sqlite3.Error) as error:
        raise unwritable(home, error) from error
    finally:
        connection.close()
    return results


def _hash_or_error(path: PurePath) -> str | AvserError:
    try:
        return content_hash(path)
    except (CacheError, MediaError) as error:
        return error


def _unreadable(path: PurePath, error: OSError | ValueError) -> CacheError:
    why = error.strerror if isinstance(error, OSError) else error
    name = str(path).replace("\0", "\\0")
    return CacheError(f"Bad clip {name}: it can't be read ({why}); check the corpus's root.")
