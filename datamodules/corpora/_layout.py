"""Search for a corpus's files below its root, and errors for missing ones."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from avser.errors import CorpusError, unknown
from avser.files import is_special
from avser.media.suffixes import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from avser.stores import Address, kind, list_folder, read_bytes
from avser.types import Corpus


def _in_order(first: Sequence[str], suffixes: frozenset[str]) -> tuple[str, ...]:
    return (*first, *sorted(suffixes - set(first)))


# in order of preference where a take has several files
SOUND = _in_order((".wav", ".flac", ".mp3"), AUDIO_SUFFIXES)
VIDEO = _in_order((".mp4", ".avi", ".flv", ".mov", ".mkv"), VIDEO_SUFFIXES)

_DELIMITERS = ",;\t|"  # the first of the most frequent in the header


def files_below(root: PurePath, *, suffixes: Sequence[str]) -> list[PurePath]:
    """Files below the root with one of the suffixes (any case), those nearest to it first.

    Linked folders are followed, each once. Files of file managers (``.DS_Store``, ``._x``,
    ``__MACOSX``) are ignored.

    Raises:
        MediaError, StorageError, ConfigError: the root is an address that can't be listed.
    """
    result = []
    for path in list_folder(root) if isinstance(root, Address) else _walk(Path(root)):
        suffix = path.suffix.lower()
        if suffix in suffixes and not is_special(path):
            result.append((len(path.parts), suffixes.index(suffix), str(path), path))
    return [path for *_, path in sorted(result)]


def _walk(root: Path) -> Iterator[Path]:
    """All files below a folder of this machine."""
    visited: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link back: its files are listed elsewhere
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        for name in names:
            if not name.startswith("."):
                yield Path(folder, name)


def named(
    root: PurePath, *, pattern: re.Pattern[str], suffixes: Sequence[str]
) -> list[tuple[PurePath, re.Match[str]]]:
    """Files whose stem matches the whole pattern, each name once.

    Archives of some corpora have a second copy of every file one folder deeper; of two files with
    the same name, the one nearest to the root is used.
    """
    result: dict[str, tuple[PurePath, re.Match[str]]] = {}
    for path in files_below(root, suffixes=suffixes):
        match = pattern.fullmatch(path.stem)
        if match is not None:
            result.setdefault(path.stem.lower(), (path, match))
    return list(result.values())


def beside(root: PurePath, ending: str) -> PurePath:
    """Path of what lies beside a folder, and has its name and an ending."""
    return type(root)(f"{root if isinstance(root, Address) else Path(root).absolute()}{ending}")


def missing(corpus: Corpus, *, example: str) -> CorpusError:
    """Make the error of a root that holds no file of the layout."""
    state = "it holds no" if kind(corpus.root) == "folder" else "there is no such folder, expected"
    if "://" in corpus.url:
        cure = f"get the corpus from {corpus.url} and set --root to its folder"
    else:  # recordings of one's own
        cure = f"set --root to {corpus.url}"
    return CorpusError(
        f"Bad {corpus.title} root {str(corpus.root)!r}: {state} files like {example}; {cure}, or "
        f"AVSER_DATA to the folder that holds {corpus.name!r}."
    )


def emotion_of(code: str, *, codes: Mapping[str, str], path: PurePath) -> str:
    """Return the vocabulary's word for a corpus's code.

    Raises:
        CorpusError: the corpus has no such code; the sentence names the file.
    """
    if code not in codes:
        raise CorpusError(unknown(f"emotion code of {str(path)!r}:", code, codes))
    return codes[code]


def table(root: PurePath, *, name: str) -> list[dict[str, str]] | None:
    """Rows of the CSV of that name nearest to the root, or None where there is none.

    Raises:
        CorpusError: as `rows`.
    """
    for path in files_below(root, suffixes=(Path(name).suffix.lower(),)):
        if path.name.lower() == name.lower():
            return [row for _, row in rows(path)]
    return None


def rows(path: PurePath) -> list[tuple[int, dict[str, str]]]:
    """Rows of one table of text, each with the number of its (last) line; missing cells are empty.

    Commas, semicolons, tabs or bars may delimit the cells, as the header shows; spreadsheet
    programs write all of them. Blank rows and a first line ``sep=;`` are skipped. The text is
    UTF-8, UTF-16 with a byte order mark, or Windows-1252.

    Raises:
        CorpusError: the file can't be read as such a table, or a row has more cells than the
            header.
    """
    table: list[tuple[int, dict[str, str]]] = []
    lines = list(io.StringIO(_text(path), newline=""))
    skipped = 0
    while skipped < len(lines) and (not lines[skipped].strip() or _SEPARATOR.match(lines[skipped])):
        skipped += 1
    delimiter = _delimiter(lines[: skipped + 1])
    reader = csv.reader(lines[skipped:], delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for name, count in Counter(name.lower() for name in header if name).items():
            if count > 1:
                raise CorpusError(
                    f"Bad table {str(path)!r}: the column {name!r} stands there twice; leave one "
                    "out."
                )
        for cells in reader:
            line, cells = reader.line_num + skipped, [cell.strip() for cell in cells]
            if any(cells[len(header) :]):
                raise CorpusError(
                    f"Bad line {line} of {str(path)!r}: it has {len(cells)} cells, expected at "
                    f"most the header's {len(header)}; put cells that hold a {delimiter!r} in "
                    "double quotes."
                )
            if any(cells):
                padded = cells + [""] * (len(header) - len(cells))
                table.append((line, dict(zip(header, padded, strict=False))))
    except csv.Error as error:
        why = f"line {reader.line_num + skipped}: {error}"
        if "unexpected end" in str(error):
            why = "it ends inside quotes, so a double quote is missing somewhere"
        raise _no_table(path, why) from error
    return table


_SEPARATOR = re.compile(r"sep=.\s*$", re.IGNORECASE)  # what Excel writes for itself


def _no_table(path: PurePath, why: object) -> CorpusError:
    return CorpusError(f"Bad table {str(path)!r}: {why}; expected a CSV file of UTF-8 text.")


def _text(path: PurePath) -> str:
    try:
        raw = read_bytes(path)
    except OSError as error:
        raise _no_table(path, error.strerror) from error
    codings = ("utf-16",) if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    for coding in codings:
        try:
            text = raw.decode(coding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise _no_table(path, "it is no text")


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter that a line ``sep=;`` states, or the most frequent one of the header."""
    for line in lines[:-1]:
        if _SEPARATOR.match(line):
            return line[4]
    header = re.sub(r'"[^"]*"', "", lines[-1]) if lines else ""
    return max(_DELIMITERS, key=header.count)
