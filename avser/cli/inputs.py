"""Inputs of a command: files, folders, patterns, lists and addresses, drawn one at a time."""

import csv
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from avser.errors import ConfigError
from avser.files import is_special
from avser.media.suffixes import is_media_name
from avser.stores import is_url, store_files

_ROWS = 4_096  # of a table in memory at once
_NAMED = 3  # files that were left out and are named; of more, only their number


class Inputs:
    """Inputs in a stable order, each once; nothing is listed beforehand.

    A file that is named is taken whatever its suffix; in folders others are left out. Linked
    folders are followed, unless they lead to what is listed anyway. Links to nothing and folders
    that can't be opened are inputs too, so that each has a row that says so. Pipes and devices are
    read where they are named, not where they lie in a folder.

    Args:
        paths: files, folders, patterns, or ``-``; or addresses of the same (``s3://bucket/*.wav``).
        recursive: whether folders are taken with all below them.
        lists: text files with one input a line (``-`` is standard input), of which blank lines and
            lines that begin with ``#`` are left out; or tables with a column ``path``.

    Attributes:
        left_out: files of folders that are no recordings, so far.
    """

    def __init__(
        self, paths: Sequence[str], *, recursive: bool = False, lists: Sequence[str] = ()
    ) -> None:
        self._paths, self._recursive, self._lists = list(paths), recursive, list(lists)
        self.left_out = 0
        self._examples: list[str] = []

    def __iter__(self) -> Iterator[str]:
        # one folder has no path twice; otherwise a number a path is remembered
        one = len(self._paths) == 1 and not self._lists
        seen: set[int] | None = None if one else set()
        for path in self._all():
            if seen is not None:
                key = hash(path)
                if key in seen:
                    continue
                seen.add(key)
            yield path

    def _all(self) -> Iterator[str]:
        for name in self._paths:
            if name == "-":
                yield name
                continue
            if is_url(name):
                yield from self._of_store(name)
                continue
            for path in _matches(name):
                if os.path.isdir(path):
                    yield from self._folder(path, roots=[os.path.realpath(path)])
                else:
                    yield path
        for name in self._lists:
            yield from _listed(name)

    def _of_store(self, name: str) -> Iterator[str]:
        """An address; or the recordings of a pattern, or of a folder, in a bucket."""
        for path in store_files(name, recursive=self._recursive):
            if path == name or is_media_name(path):
                yield path
            else:
                self._leave_out(path)

    def _folder(self, folder: str, *, roots: list[str]) -> Iterator[str]:
        """Recordings of a folder, sorted; then those of the folders below it."""
        try:
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if not e.name.startswith("."))
        except OSError:
            yield folder  # its row says why it can't be opened
            return
        below = []
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isdir(path):
                below.append(path)
            elif is_special(path):  # a pipe without a writer would block its reader
                self._leave_out(f"{path} (a pipe or a device)", always=True)
            elif is_media_name(name):
                yield path
            elif os.path.islink(path) and not os.path.exists(path):
                self._leave_out(f"{path} (a link to nothing)", always=True)
            else:
                self._leave_out(path)
        for path in below if self._recursive else ():
            if os.path.islink(path):
                target = os.path.realpath(path)
                if any(_covers(root, target) or _covers(target, root) for root in roots):
                    self._leave_out(f"{path} (a link to a folder that is listed)", always=True)
                    continue
                roots.append(target)
            yield from self._folder(path, roots=roots)

    def _leave_out(self, path: str, *, always: bool = False) -> None:
        self.left_out += 1
        if always or len(self._examples) < _NAMED:
            self._examples.append(path)

    def summary(self) -> str | None:
        """One sentence about what was left out, or None."""
        if not self.left_out:
            return None
        many = "1 file that is no recording"
        if self.left_out > 1:
            many = f"{self.left_out} files that are no recordings"
        more = self.left_out - len(self._examples)
        names = ", ".join(self._examples) + (f" and {more} more" if more else "")
        return f"left out {many}: {names}."

    def common_folder(self) -> Path:
        """The folder that holds all inputs, as far as their names tell; "." for lists."""
        places = [
            Path(name) if os.path.isdir(name) else _plain_part(name).parent
            for name in self._paths
            if name != "-" and not is_url(name)
        ]
        if not places or self._lists:
            places.append(Path())
        try:
            return Path(os.path.commonpath([Path(p).absolute() for p in places]))
        except ValueError:  # several drives
            return Path().absolute()


def expand(paths: Sequence[str], *, recursive: bool) -> list[str]:
    """List inputs; see `Inputs`.

    Raises:
        ConfigError: there is none.
    """
    inputs = Inputs(paths, recursive=recursive)
    files = list(inputs)
    if (summary := inputs.summary()) is not None:
        print(f"avser: {summary}", file=sys.stderr)
    if not files:
        raise nothing_there(paths)
    return files


def nothing_there(paths: Sequence[str]) -> ConfigError:
    """The error of inputs among which there is no recording."""
    return ConfigError(
        f"Bad input {', '.join(paths)}: no media file is there; give files, folders (with "
        "--recursive for theirs), patterns or --list FILE."
    )


def _covers(folder: str, other: str) -> bool:
    """Whether another folder is that folder, or lies below it without a hidden one between."""
    if folder == other:
        return True
    inside = os.path.relpath(other, folder)
    return not any(part == os.pardir or part.startswith(".") for part in Path(inside).parts)


def _matches(name: str) -> Iterable[str]:
    if os.path.lexists(name) or not glob.has_magic(name):
        return [name]
    return sorted(glob.glob(name, recursive=True))


def _plain_part(name: str) -> Path:
    """A pattern up to its first part with a wildcard; other names as they are."""
    parts = Path(name).parts
    if os.path.lexists(name):
        return Path(name)
    plain = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:plain], "x") if plain < len(parts) else Path(name)


def _listed(name: str) -> Iterator[str]:
    """Inputs of a list: lines of a text, or cells of a column, ``path`` unless ``#COLUMN`` follows.

    Raises:
        ConfigError: the list can't be read, or has no such column.
    """
    place, _, column = name.partition("#")
    kind = Path(place).suffix.lower()
    if kind in (".parquet", ".csv", ".tsv"):
        read = _parquet_column if kind == ".parquet" else _csv_column
        yield from read(place, column or "path")
        return
    try:
        # bytes of names that are not UTF-8 are kept, as the system's own names are
        file = (
            sys.stdin if name == "-" else open(name, encoding="utf-8-sig", errors="surrogateescape")
        )
    except OSError as error:
        raise _bad_list(name, error.strerror or "it can't be read") from error
    try:
        for line in file:
            path = line.rstrip("\r\n")
            if path.strip() and not path.startswith("#"):
                yield path
    finally:
        if file is not sys.stdin:
            file.close()


def _bad_list(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"Bad --list {name}: {reason}; give a text file with one path a line, or a .csv or "
        ".parquet with a column path (FILE#COLUMN names another)."
    )


def _csv_column(name: str, column: str) -> Iterator[str]:
    try:
        with open(name, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            table = csv.DictReader(file, delimiter="\t" if name.lower().endswith(".tsv") else ",")
            if column not in (table.fieldnames or ()):
                raise _bad_list(name, f"it has no column {column}")
            yield from (row[column] for row in table if row[column])
    except OSError as error:
        raise _bad_list(name, error.strerror or "it can't be read") from error


def _parquet_column(name: str, column: str) -> Iterator[str]:
    from avser.extras import require

    require("scale", "pyarrow")
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(name) as table:
            if column not in table.schema_arrow.names:
                raise _bad_list(name, f"it has no column {column}")
            for batch in table.iter_batches(_ROWS, columns=[column]):
                yield from (str(path) for path in batch.column(0).to_pylist() if path)
    except (OSError, ValueError) as error:
        raise _bad_list(name, getattr(error, "strerror", None) or "it is no Parquet") from error
