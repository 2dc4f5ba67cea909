"""Atomic writing, locks, and JSON files.

Files are written under a temporary name in the same folder, flushed to the disk, and renamed, so
that a reader sees the old file or the complete new one. After an error the temporary file is
removed.
"""

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import IO, Any, Literal

from avser.errors import StorageError

_PERMISSIONS = 0o666  # as open() asks; the temporary file is made private and then gets these


@contextmanager
def atomic_write(path: str | Path, *, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that gets its name when the block ends without an error.

    Missing folders are made. Text is UTF-8, its lines end with a line feed; file names that are
    not UTF-8 keep their bytes. A device or a pipe is written directly: it can't be replaced.
    """
    path = Path(path)
    text = {"encoding": "utf-8", "newline": "\n", "errors": "surrogateescape"}
    text = text if mode == "w" else {}
    if is_special(path):
        with open(path, mode, **text) as file:  # type: ignore[call-overload]
            yield file
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a long name would be too long with what is added; 255 bytes are legal nearly everywhere
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:50]}-", dir=path.parent)
    except OSError as error:  # of the name that was asked for, not of the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with open(handle, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, _PERMISSIONS & ~mask)
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, name):
            # such as a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """Keep other processes of this machine from a file or folder until the block ends.

    The system ends it with the process, however that dies, and processes that it starts do not keep
    it. Systems and file systems without such locks keep nobody out. `filelock`, which the cache
    waits with, would leave a file of its own in the folder.

    Raises:
        StorageError: another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    _close_locks_in_children()
    descriptor = os.open(path, os.O_RDONLY)
    _LOCKS.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                f"Can't use {path}: another process is writing it; wait until that ends, or name "
                "another place."
            ) from error
        except OSError:  # the file system has no locks
            pass
        yield
    finally:
        if descriptor in _LOCKS:  # not in a forked process, which closed its copy
            _LOCKS.remove(descriptor)
            os.close(descriptor)


_LOCKS: set[int] = set()  # open descriptors of `exclusive`


@cache
def _close_locks_in_children() -> None:
    """Have forked processes close their copies: a lock lasts until the last copy is closed.

    A loading process outlives its killed parent by seconds, and must not keep the next run out.
    """

    def close() -> None:
        while _LOCKS:
            os.close(_LOCKS.pop())

    os.register_at_fork(after_in_child=close)


def is_special(path: str | PurePath) -> bool:
    """Whether a path is a device, a pipe or a socket."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def expand_home(path: str | Path) -> Path:
    """Replace a leading ``~`` or ``~user`` by that folder; a name such as ``~take.wav`` stays."""
    return Path(os.path.expanduser(path))


def write_json(where: str | Path | None, content: object) -> None:
    """Write one JSON value to a file, or print it where that is "-"; None writes nothing."""
    text = json.dumps(content, indent=1)
    if where == "-":
        print(text)
    elif where is not None:
        with atomic_write(where) as file:
            file.write(text + "\n")


def append_json_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append a JSON object to a file as one line; missing folders are created.

    If the file ends with a partial line, of a process that was killed, a line break is added first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row).encode() + b"\n"
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read a file of JSON objects, one per line; nothing if the file is missing.

    A partial line, of a process that was killed, is skipped.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue
