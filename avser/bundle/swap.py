"""Atomic replacement of a folder, and consistent reads of one that may be replaced."""

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_AT_FDCWD = -100  # paths are relative to the working directory
_T = TypeVar("_T")
_EXCHANGE = 2  # RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS


def replace_folder(new: Path, folder: Path) -> None:
    """Replace a folder by a finished one of the same parent folder, and delete the old one.

    Readers see either the old folder or the new one: one system call exchanges the two names. On
    file systems without that call there are two renames; if the second fails, the first is undone.
    """
    if not folder.exists() or not any(folder.iterdir()):
        new.replace(folder)
    elif _exchange(new, folder):
        shutil.rmtree(new, ignore_errors=True)
    else:
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        folder.replace(aside)
        try:
            new.replace(folder)
        except OSError:
            aside.replace(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names; False where the system or its file system can't."""
    names = os.fsencode(first), os.fsencode(second)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return bool(libc.renamex_np(*names, _EXCHANGE) == 0)
        code = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE)
        return bool(code == 0)
    except (OSError, AttributeError, TypeError):  # no such function, or no libc by that name
        return False


def read_unchanged(locate: Callable[[], Path], read: Callable[[Path], _T], *, mark: str) -> _T:
    """Read a folder, and repeat that if it was replaced meanwhile.

    Args:
        locate: returns the folder.
        read: reads it; an error is raised only if the folder is still the same.
        mark: name of a file that every replacement writes.
    """
    while True:
        folder = locate()
        before = _identity(folder, mark)
        try:
            content = read(folder)
        except Exception:
            if _identity(folder, mark) == before:
                raise
            continue
        if _identity(folder, mark) == before:
            return content


def _identity(folder: Path, mark: str) -> tuple[int, ...]:
    try:
        own, file = folder.stat(), (folder / mark).stat()
    except OSError:
        return ()
    return own.st_ino, file.st_ino, file.st_mtime_ns, file.st_size
