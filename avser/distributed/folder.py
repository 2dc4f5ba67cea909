"""Files of a folder, on a disk or in a bucket."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import IO, Any

from avser.errors import AvserError, StorageError
from avser.extras import require
from avser.files import atomic_write
from avser.stores import is_url


class Folder:
    """Named files in one place; a file has its name only when it is whole.

    Args:
        place: folder, or address of one (``s3://bucket/job``) that fsspec can open. It is made
            when the first file is written.

    Raises:
        StorageError: what opens such an address is not installed.
    """

    def __init__(self, place: str | PurePath) -> None:
        self.place = str(place)
        self._store: Any = None
        self._root = self.place
        if is_url(self.place):
            require("scale", "fsspec")
            import fsspec

            try:
                self._store, self._root = fsspec.core.url_to_fs(self.place)
            except Exception as error:  # unknown kinds, missing packages, a store's own classes
                raise StorageError(_sentence("open", self.place, error)) from error

    def __str__(self) -> str:
        return self.place

    def path(self, name: str) -> str:
        """The whole name of a file."""
        return f"{self.place.rstrip('/')}/{name}" if self._store else os.path.join(self._root, name)

    def names(self) -> set[str]:
        """Names of all files; none where the folder is missing.

        Raises:
            StorageError: it can't be listed.
        """
        with self._errors("list"):
            if self._store is None:
                return (
                    {e.name for e in os.scandir(self._root)} if os.path.isdir(self._root) else set()
                )
            self._store.invalidate_cache(self._root)
            try:
                result = self._store.ls(self._root, detail=False)
            except FileNotFoundError:
                return set()
            return {str(name).rstrip("/").rsplit("/", 1)[-1] for name in result}

    @contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file that appears, or replaces the old one, when the block ends without an error.

        Raises:
            StorageError: it can't be written.
        """
        if self._store is None:
            with self._errors("write", name), atomic_write(self.path(name), mode="wb") as file:
                yield file
            return
        with tempfile.NamedTemporaryFile(prefix="avser-") as copy:
            yield copy.file
            copy.flush()
            with self._errors("write", name):
                self._store.put_file(copy.name, f"{self._root}/{name}")

    @contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it can't be read.
        """
        with self._errors("read", name):
            where = f"{self._root}/{name}" if self._store else self.path(name)
            with self._store.open(where, "rb") if self._store else open(where, "rb") as file:
                yield file

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes of a file, in one request where it is in a store.

        Raises:
            StorageError: they can't be read.
        """
        with self._errors("read", name):
            try:
                if self._store is not None:
                    result: bytes = self._store.cat_file(f"{self._root}/{name}", start, stop)
                    return result
                with open(self.path(name), "rb") as file:
                    file.seek(start)
                    return file.read(stop - start)
            except FileNotFoundError as error:
                raise StorageError(_sentence("read", self.path(name), error)) from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            StorageError: it can't be removed.
        """
        with self._errors("remove", name):
            try:
                if self._store is None:
                    os.remove(self.path(name))
                else:
                    self._store.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                pass

    @contextmanager
    def _errors(self, doing: str, name: str | None = None) -> Iterator[None]:
        """Raise errors of the disk or the store as one sentence."""
        where = self.place if name is None else self.path(name)
        try:
            yield
        except (AvserError, GeneratorExit):
            raise
        except FileNotFoundError as error:
            if doing != "write":
                raise
            raise StorageError(_sentence(doing, where, error)) from error
        except OSError as error:
            raise StorageError(_sentence(doing, where, error)) from error
        except Exception as error:
            if self._store is None:
                raise
            raise StorageError(_sentence(doing, where, error)) from error  # a store's own classes


def _sentence(doing: str, where: str, error: Exception) -> str:
    words = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return (
        f"Can't {doing} {where}: {words.rstrip('.')}; free space or check the address and the "
        "rights, then run the same command again: what is finished is kept."
    )
