"""A corpus of one's own: any CSV that lists media files, emotions and speakers."""

from __future__ import annotations

from pathlib import Path, PurePath

from avser.emotions import canonical
from avser.errors import ConfigError, CorpusError, unknown
from avser.types import Clip, Corpus

from ._layout import VIDEO, missing, rows

REQUIRED = ("path", "emotion", "speaker")
OPTIONAL = ("start", "end", "part", "sex", "sentence", "video", "features", "clip_id")
PARTS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
SEXES = {"female": "female", "f": "female", "male": "male", "m": "male"}


class Manifest(Corpus):
    """A CSV with a row a clip; its name is what stands before the speakers.

    Columns ``path,emotion,speaker`` must be there (the cells of the last two may be empty);
    ``start,end`` (seconds), ``part`` (train, validation, test), ``sex``, ``sentence``,
    ``video``, ``features`` and ``clip_id`` may be; any further column becomes an attribute.
    Paths are relative to the CSV; ``features`` are as `avser.media.visual_features` reads them. A
    clip of a video file is its own video. Emotions may be spelt as in the alias table of
    `avser.emotions`.

    Args:
        root: the CSV, or a folder that holds ``manifest.csv``.
        corpus: name of the corpus, for instance where several manifests are mixed.
    """

    name = "manifest"
    title = "Manifest"
    licence = "as its owner says"
    url = "your own CSV file with the columns path,emotion,speaker"
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
        path = self.root / "manifest.csv" if self.root.is_dir() else self.root
        if not path.is_file():
            raise missing(self, example="manifest.csv")
        table = rows(path)
        absent = [column for column in REQUIRED if table and column not in table[0][1]]
        if absent or not table:
            what = f"it lacks the column {absent[0]!r}" if absent else "it has no rows"
            raise CorpusError(
                f"Bad manifest {str(path)!r}: {what}; expected a header with "
                f"{','.join(REQUIRED)} (optional: {','.join(OPTIONAL)}), then a row a clip."
            )
        clips: dict[str, Clip] = {}
        for line, row in table:
            clip = self._clip(row, csv_path=path, line=line)
            if clip.clip_id in clips:
                raise _bad_row(
                    path, line, f"clip {clip.clip_id!r} stands there twice; give a column clip_id."
                )
            clips[clip.clip_id] = clip
        return [clips[clip_id] for clip_id in sorted(clips)]

    def _clip(self, row: dict[str, str], *, csv_path: Path, line: int) -> Clip:
        try:
            path = _media(row["path"], csv_path.parent)
            start, end = _seconds(row.get("start", "")), _seconds(row.get("end", ""))
            if end is not None and end <= (start or 0.0):
                raise CorpusError(f"end {end:g} s is not after start {start or 0.0:g} s.")
            emotion = canonical(row["emotion"]) if row["emotion"] else None
            video = _media(row["video"], csv_path.parent) if row.get("video") else None
            part = _one_of(row.get("part", ""), "part", PARTS) or None
            sex = _one_of(row.get("sex", ""), "sex", SEXES)
        except (CorpusError, ConfigError) as error:
            raise _bad_row(csv_path, line, str(error)) from error
        if video is None and path.suffix.lower() in VIDEO:
            video = path
        return Clip(
            path=path,
            clip_id=row.get("clip_id") or _clip_id(row["path"], start),
            emotion=emotion,
            speaker=f"{self.corpus}/{row['speaker']}" if row["speaker"] else "",
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


def _bad_row(path: Path, line: int, why: str) -> CorpusError:
    return CorpusError(f"Bad line {line} of {str(path)!r}: {why}")


def _clip_id(path: str, start: float | None) -> str:
    """Take the path as written; an absolute one differs between machines, so its name alone."""
    pure = PurePath(path.replace("\\", "/"))
    stem = pure.stem if pure.is_absolute() else pure.with_suffix("").as_posix()
    return stem if start is None else f"{stem}@{start:.3f}"


def _media(text: str, folder: Path) -> Path:
    if not text:
        raise CorpusError("the path is empty; give the media file of the clip.")
    path = folder / Path(text.replace("\\", "/")).expanduser()
    if not path.is_file():
        raise CorpusError(f"there is no file {str(path)!r}; paths are relative to the CSV.")
    return path


def _features(text: str, folder: Path) -> str | None:
    name, mark, key = text.partition("#")
    return f"{folder / Path(name).expanduser()}{mark}{key}" if text else None


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise CorpusError(f"time {text!r} is not a number of seconds from 0; write it as 12.5.")
    return value


def _one_of(text: str, what: str, words: dict[str, str]) -> str:
    if text and text.lower() not in words:
        raise CorpusError(unknown(what, text, words))
    return words[text.lower()] if text else ""
