"""Finding a corpus's files below its root, and the sentences for when they are not there."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from avser.errors import CorpusError, unknown
from avser.types import Corpus

SOUND = (".wav", ".flac", ".mp3")  # in order of preference where a take has several
VIDEO = (".mp4", ".avi", ".flv", ".mov", ".mkv")


def files_below(root: Path, *, suffixes: Sequence[str]) -> list[Path]:
    """Files below the root with one of the suffixes (any case), those nearest to it first.

    What file managers leave behind (``.DS_Store``, ``._x``, ``__MACOSX``) is left out.
    """
    found: list[tuple[int, int, str, Path]] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(".") and f != "__MACOSX"]
        here = Path(folder)
        depth = len(here.parts)
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if suffix in suffixes and not name.startswith("."):
                path = here / name
                found.append((depth, suffixes.index(suffix), str(path), path))
    return [path for *_, path in sorted(found)]


def named(
    root: Path, *, pattern: re.Pattern[str], suffixes: Sequence[str]
) -> list[tuple[Path, re.Match[str]]]:
    """Files whose stem matches the whole pattern, each name once.

    Archives of some corpora hold a second copy of every file one folder deeper; of two files of
    one name the one nearest to the root counts.
    """
    found: dict[str, tuple[Path, re.Match[str]]] = {}
    for path in files_below(root, suffixes=suffixes):
        match = pattern.fullmatch(path.stem)
        if match is not None:
            found.setdefault(path.stem.lower(), (path, match))
    return list(found.values())


def missing(corpus: Corpus, *, example: str) -> CorpusError:
    """Make the error of a root that holds no file of the layout."""
    state = "it holds no" if corpus.root.is_dir() else "there is no such folder, expected"
    return CorpusError(
        f"Bad {corpus.title} root {str(corpus.root)!r}: {state} files like {example}; get the "
        f"corpus from {corpus.url} and set --root to its folder, or AVSER_DATA to the folder "
        f"that holds {corpus.name!r}."
    )


def emotion_of(code: str, *, codes: Mapping[str, str], path: Path) -> str:
    """Return the vocabulary's word for a corpus's code.

    Raises:
        CorpusError: the corpus has no such code; the sentence names the file.
    """
    if code not in codes:
        raise CorpusError(unknown(f"emotion code of {str(path)!r}:", code, codes))
    return codes[code]


def table(root: Path, *, name: str) -> list[dict[str, str]] | None:
    """Rows of the CSV of that name nearest to the root, or None where there is none.

    Raises:
        CorpusError: as `rows`.
    """
    for path in files_below(root, suffixes=(Path(name).suffix.lower(),)):
        if path.name.lower() == name.lower():
            return [row for _, row in rows(path)]
    return None


def rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows of one CSV file, each with the number of its (last) line; missing cells are empty.

    Raises:
        CorpusError: the file can't be read as a CSV of UTF-8 text, or a row has more cells than
            the header.
    """
    found: list[tuple[int, dict[str, str]]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            for cells in reader:
                if len(cells) > len(header):
                    raise CorpusError(
                        f"Bad line {reader.line_num} of {str(path)!r}: it has {len(cells)} cells, "
                        f"expected at most the header's {len(header)}; put cells that hold a "
                        "comma in double quotes."
                    )
                if cells:
                    padded = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
                    found.append((reader.line_num, dict(zip(header, padded, strict=True))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(
            f"Bad table {str(path)!r}: {error}; expected a CSV file of UTF-8 text."
        ) from error
    return found
