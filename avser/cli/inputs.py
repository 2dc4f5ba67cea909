"""Inputs of a command: files, folders, patterns, lists and addresses, drawn one at a time."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from avser.errors import ConfigError
from avser.files import is_url
from avser.media.suffixes import is_media_name

_NAMED = 3  # files that were left out and are named; of more, only their number


class Inputs:
    """Inputs in a stable order, each once; nothing is listed beforehand.

    A file that is named is taken whatever its suffix; in folders others are left out. Linked
    folders are followed, unless they lead to what is listed anyway. Links to nothing and folders
    that can't be opened are inputs too, so that each has a row that says so.

    Args:
        paths: files, folders, patterns, addresses, or ``-``.
        recursive: whether folders are taken with all below them.
        lists: text files with one input a line (``-`` is standard input); blank lines and lines
            that begin with ``#`` are left out.

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
            if name == "-" or is_url(name):
                yield name
                continue
            for path in _matches(name):
                if os.path.isdir(path):
                    yield from self._folder(path, roots=[os.path.realpath(path)])
                else:
                    yield path
        for name in self._lists:
            yield from _listed(name)

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
        many = "1 file" if self.left_out == 1 else f"{self.left_out} files"
        more = self.left_out - len(self._examples)
        names = ", ".join(self._examples) + (f" and {more} more" if more else "")
        return f"left out {many} without a media suffix or behind a bad link: {names}."

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
    """Lines of a list of inputs."""
    try:
        # bytes of names that are not UTF-8 are kept, as the system's own names are
        file = (
            sys.stdin if name == "-" else open(name, encoding="utf-8-sig", errors="surrogateescape")
        )
    except OSError as error:
        raise ConfigError(
            f"Bad --list {name}: {error.strerror}; give a text file with one path a line."
        ) from error
    try:
        for line in file:
            path = line.rstrip("\r\n")
            if path.strip() and not path.startswith("#"):
                yield path
    finally:
        if file is not sys.stdin:
            file.close()
