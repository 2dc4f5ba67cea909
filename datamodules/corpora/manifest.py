"""A corpus of one's own: any CSV that lists media files, emotions and speakers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePath

from avser.emotions import canonical
from avser.errors import ConfigError, CorpusError, unknown
from avser.media.suffixes import is_video_name
from avser.stores import Address, as_path, is_url, kind, list_folder
from avser.types import Clip, Corpus

from ._layout import rows

REQUIRED = ("path",)
OPTIONAL = (
    "emotion",
    "speaker",
    "start",
    "end",
    "part",
    "sex",
    "sentence",
    "video",
    "features",
    "clip_id",
)
PARTS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
SEXES = {"female": "female", "f": "female", "male": "male", "m": "male"}


class Manifest(Corpus):
    """A CSV with one row per clip; its name is the prefix of the speakers.

    The column ``path`` must be there; ``emotion`` (without it, or with an empty cell, a clip is
    unlabelled), ``speaker``, ``start,end`` (seconds), ``part`` (train, validation, test), ``sex``,
    ``sentence``, ``video``, ``features`` and ``clip_id`` may be; any further column becomes an
    attribute. Names of columns may be in capitals; commas, semicolons, tabs or bars may stand
    between the cells. Paths are relative to the CSV, or addresses; ``features`` are as
    `avser.media.visual_features` reads them. A clip of a video file is its own video. Emotions may
    be spelt as in the alias table of `avser.emotions`.

    Args:
        root: the CSV, or a folder that holds ``manifest.csv``; or the address of one.
        corpus: name of the corpus, for instance where several manifests are mixed.
    """

    name = "manifest"
    title = "Manifest"
    licence = "as its owner says"
    url = "your own CSV file with the columns path,emotion and speaker"
    citation = ""
    label_target = "given"

    def __init__(self, root: str | Path | None = None, *, corpus: str = "manifest") -> None:
        super().__init__(root)
        if not corpus or "/" in corpus:
            raise ConfigError(
                f"Bad corpus name {corpus!r}: expected a word without '/', for it stands before "
                "the speakers as in 'manifest/anna'."
            )
        self.corpus = corpus

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (the path without its suffix, and the start)."""
        path = self.root / "manifest.csv" if kind(self.root) == "folder" else self.root
        if kind(path) != "file":
            raise _no_manifest(self.root)
        table = [(line, {k.lower(): v for k, v in row.items()}) for line, row in rows(path)]
        absent = [column for column in REQUIRED if table and column not in table[0][1]]
        if absent or not table:
            what = f"it lacks the column {absent[0]!r}" if absent else "it has no rows"
            raise CorpusError(
                f"Bad manifest {str(path)!r}: {what}; expected a header with "
                f"{','.join(REQUIRED)} (optional: {','.join(OPTIONAL)}), then a row a clip."
            )
        places = _places([row["path"] for _, row in table])
        stems = [_stem(row, place) for (_, row), place in zip(table, places, strict=True)]
        same = Counter(stems)
        clips: dict[str, Clip] = {}
        for (line, row), place, stem in zip(table, places, stems, strict=True):
            clip = self._clip(row, place, csv_path=path, line=line, twice=same[stem] > 1)
            if clip.clip_id in clips:
                raise _bad_row(
                    path,
                    line,
                    f"clip {clip.clip_id!r} stands there twice; leave one of the rows out, or, for "
                    "two recordings, give a column clip_id.",
                )
            clips[clip.clip_id] = clip
        self.notes = similar_speakers({clip.speaker for clip in clips.values()})
        return [clips[clip_id] for clip_id in sorted(clips)]

    def _clip(
        self, row: dict[str, str], place: PurePath, *, csv_path: PurePath, line: int, twice: bool
    ) -> Clip:
        try:
            path = _media(row["path"], csv_path.parent)
            start, end = _seconds(row.get("start", "")), _seconds(row.get("end", ""))
            if end is not None and end <= (start or 0.0):
                raise CorpusError(f"end {end:g} s is not after start {start or 0.0:g} s.")
            emotion = canonical(row["emotion"]) if row.get("emotion") else None
            video = _media(row["video"], csv_path.parent) if row.get("video") else None
            part = _one_of(row.get("part", ""), "part", PARTS) or None
            sex = _one_of(row.get("sex", ""), "sex", SEXES)
        except (CorpusError, ConfigError) as error:
            raise _bad_row(csv_path, line, str(error)) from error
        if video is None and is_video_name(place):
            video = path
        return Clip(
            path=path,
            clip_id=_clip_id(row, place, suffix=twice),
            emotion=emotion,
            speaker=f"{self.corpus}/{row['speaker']}" if row.get("speaker") else "",
            corpus=self.corpus,
            video=video,
            features=_features(row.get("features", ""), csv_path.parent),
            start_s=start,
            end_s=end,
            part=part,
            sex=sex,
            sentence=row.get("sentence", ""),
            attributes={k: v for k, v in row.items() if k and k not in (*REQUIRED, *OPTIONAL)},
        )


def _no_manifest(root: PurePath) -> CorpusError:
    """Make the error of a root that is no CSV and holds none of the right name."""
    state, cure = "there is no such file or folder", "name a CSV, or a folder with manifest.csv"
    if kind(root) == "folder":
        below = list_folder(root) if isinstance(root, Address) else Path(root).iterdir()
        tables = (p for p in below if p.parent == root and p.suffix.lower() in (".csv", ".tsv"))
        others = sorted(p.name for p in tables)
        state, cure = "it holds no manifest.csv", "put one there, or name a CSV"
        cure = f"name a CSV, such as {str(root / others[0])!r}" if others else cure
    elif os.path.exists(root):
        state = "it is no file"
    return CorpusError(
        f"Bad manifest {str(root)!r}: {state}; expected a CSV with the columns path,emotion and "
        f"speaker: {cure} with --root."
    )


def _bad_row(path: PurePath, line: int, why: str) -> CorpusError:
    return CorpusError(f"Bad line {line} of {str(path)!r}: {why}")


def _places(paths: Sequence[str]) -> list[PurePath]:
    """The paths by which clips are named: as written, or the names of absolute ones.

    Absolute paths differ between machines, and buckets get other names. Where two of one name are
    in different folders, what lies below the folder that holds all is taken.
    """
    written = [
        Address(text.partition("?")[0]) if is_url(text) else PurePath(text.replace("\\", "/"))
        for text in paths
    ]
    absolute = {path for path in written if path.is_absolute()}
    if len({path.name for path in absolute}) == len(absolute):
        return [PurePath(path.name) if path.is_absolute() else path for path in written]
    levels = zip(*(path.parent.parts for path in absolute), strict=False)
    shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))
    return [PurePath(*path.parts[shared:]) if path.is_absolute() else path for path in written]


def _stem(row: Mapping[str, str], place: PurePath) -> tuple[str, str, str]:
    """Rows of one stem differ in the suffix of their file alone, or in nothing."""
    return row.get("clip_id", ""), str(place.parent / place.stem), row.get("start", "")


def _clip_id(row: Mapping[str, str], place: PurePath, *, suffix: bool) -> str:
    """The row's own id, or its path, and the start.

    ``suffix`` keeps the file's suffix, for ``x.wav`` beside ``x.mp4``.
    """
    if row.get("clip_id"):
        return row["clip_id"]
    stem = place.as_posix() if suffix or not place.name else place.with_suffix("").as_posix()
    return f"{stem}@{_seconds(row['start']):.3f}" if row.get("start") else stem


def similar_speakers(speakers: Iterable[str]) -> list[str]:
    """Notes on speakers whose names differ in upper and lower case or in spaces alone."""
    alike: dict[str, list[str]] = {}
    for name in sorted(speakers):
        alike.setdefault("".join(name.lower().split()), []).append(name.partition("/")[2])
    return [
        f"speakers {' and '.join(map(repr, names))} count as {len(names)} people; spell them "
        "alike if they are one"
        for names in alike.values()
        if len(names) > 1
    ]


def _media(text: str, folder: PurePath) -> PurePath:
    if not text:
        raise CorpusError("the path is empty; give the media file of the clip.")
    path = _below(folder, text)
    # a request a row would be slow: addresses are looked up when they are prepared
    if not isinstance(path, Address) and kind(path) != "file":
        raise CorpusError(f"there is no file {str(path)!r}; paths are relative to the CSV.")
    return path


def _below(folder: PurePath, text: str) -> PurePath:
    """The path or address of a cell."""
    return as_path(text) if is_url(text) else folder / as_path(text.replace("\\", "/"))


def _features(text: str, folder: PurePath) -> str | None:
    name, mark, key = text.partition("#")
    return f"{_below(folder, name)}{mark}{key}" if text else None


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))  # 12,5 in German spreadsheets
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise CorpusError(f"time {text!r} is not a number of seconds from 0; write it as 12.5.")
    return value


def _one_of(text: str, what: str, words: dict[str, str]) -> str:
    if text and text.lower() not in words:
        raise CorpusError(unknown(what, text, words))
    return words[text.lower()] if text else ""
