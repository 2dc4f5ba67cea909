"""Log of a job's rows, from which an interrupted job is resumed.

The log is a file of JSON Lines beside the job's first output: the settings of the job, then one row
per clip. Each row is flushed at once (a killed process loses none) and synced to the disk every
second (a power cut loses a second). Memory holds eight bytes per row, and about a hundred more for
each row of a resumed job.
"""

from __future__ import annotations

import json
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from avser.errors import ConfigError
from avser.files import exclusive
from avser.inference.writers import Row

_SYNC_S = 1.0


def log_path(output: str | Path) -> Path:
    """Name of the log of a job whose first output is that file."""
    path = Path(output)
    return path.with_name(f"{path.name}.part.jsonl")


class RowLog:
    """The rows of a job; use it in ``with``.

    Args:
        path: of the log; missing folders are made.
        settings: of the job. A log with other settings is refused, since its rows would be mixed.
        earlier: rows of a finished job that are kept, used where there is no log yet.

    Raises:
        ConfigError: the log is of a job with other settings, or is no log.
        StorageError: another process writes it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        settings: Mapping[str, Any],
        earlier: Callable[[], Iterable[Row]] = tuple,
    ) -> None:
        self.path = Path(path)
        self._settings = json.loads(json.dumps(settings))
        self._known: dict[bytes, int] = {}  # offset of the good row of an input
        self._order = array("q")  # offsets of the job's rows, in the order of its inputs
        self._synced = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        resumed = self.path.exists() and self.path.stat().st_size > 0
        self._file: IO[bytes] = open(self.path, "r+b" if resumed else "w+b")
        self._stack = ExitStack()
        self._stack.callback(self._file.close)
        try:
            self._stack.enter_context(exclusive(self.path))
            if resumed:
                self._recover()
            if not resumed or not self._file.tell():
                self._begin(earlier())
        except BaseException:
            self._stack.close()
            raise

    def _begin(self, earlier: Iterable[Row]) -> None:
        self._append({"settings": self._settings})
        for row in earlier:
            if "error" not in row:
                self._known[_key(row["path"])] = self._append(row)

    def _recover(self) -> None:
        """Index the existing rows, and remove a partial last line."""
        end = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                if number == 0:
                    self._compare(row["settings"])
                elif "error" in row:
                    self._known.pop(_key(row["path"]), None)  # tried again
                else:
                    self._known[_key(row["path"])] = end
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"Bad log {self.path}: line {number + 1} is no row; remove the file."
                ) from error
            end += len(line)
        self._file.seek(end)
        self._file.truncate()

    def _compare(self, settings: Mapping[str, Any]) -> None:
        if settings != self._settings:
            names = sorted(
                n for n in {*settings, *self._settings}
                if settings.get(n) != self._settings.get(n)
            )  # fmt: skip
            raise ConfigError(
                f"Bad settings: an interrupted job with another {names[0]} "
                f"({settings.get(names[0])!r}) left its rows in {self.path}; repeat its settings "
                "to go on, or remove that file."
            )

    @property
    def known(self) -> int:
        """How many inputs have a good row from before."""
        return len(self._known)

    def keep(self, path: str) -> bool:
        """Take the row that an input has from before; False where it has none."""
        offset = self._known.get(_key(path))
        if offset is not None:
            self._order.append(offset)
        return offset is not None

    def reserve(self) -> int:
        """Reserve a place in the order of the inputs for a later row."""
        self._order.append(-1)
        return len(self._order) - 1

    def add(self, place: int, row: Row) -> None:
        """Write the row of a reserved place."""
        self._order[place] = self._append(row)
        if time.monotonic() - self._synced > _SYNC_S:
            self._sync()

    def _append(self, row: Mapping[str, Any]) -> int:
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        return offset

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def rows(self) -> Iterator[Row]:
        """All rows of the job in the order of its inputs."""
        for offset in self._order:
            if offset >= 0:
                self._file.seek(offset)
                yield json.loads(self._file.readline())

    def remove(self) -> None:
        """Remove the log, after the outputs are written."""
        self.path.unlink(missing_ok=True)
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file.closed:
            return
        self._sync()
        if not self._known and all(offset < 0 for offset in self._order):
            self.path.unlink(missing_ok=True)  # nothing was done yet
        self._stack.close()


def _key(path: str) -> bytes:
    """Sixteen bytes that stand for a path."""
    return blake2b(path.encode("utf-8", "surrogateescape"), digest_size=16).digest()
