"""Recordings of one's own, in folders named after emotions."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePath

from avser.emotions import VOCABULARY, canonical
from avser.errors import ConfigError
from avser.types import Clip, Corpus

from ._layout import SOUND, VIDEO, files_below, missing
from ._pictures import emotion_or_none, part_of


class Folders(Corpus):
    r"""Any folder in which recordings lie below folders named after emotions.

    Read are ``anna/angry/01.wav``, ``angry/anna/01.wav``, ``angry/01.wav`` and the same below
    ``train``, ``validation`` and ``test``, at any depth. Files in other folders are left out, and
    counted in a note. Sound and video of one name in one folder are one clip.
    Two sounds of one name, or two videos, are two clips that keep their suffixes
    (``angry/01.flac``).

    Args:
        root: the folder.
        speaker: "folder" takes the folder directly below or above the emotion's as the speaker;
            "none" takes no speaker; else a regular expression that is searched in the path below
            the root, whose first group (or whole match) is the speaker, as ``([a-z]+)_\\d``.
        labels: folder name to emotion, for folders in other words, as ``{wut: angry}``.
    """

    name = "folders"
    title = "Folders"
    licence = "as its owner says"
    url = "your own recordings, in one folder per emotion"
    citation = ""
    label_target = "given"

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        speaker: str = "folder",
        labels: dict[str, str] | None = None,
    ) -> None:
        super().__init__(root)
        self.labels = {k.lower(): canonical(v) for k, v in (labels or {}).items()}
        self.speaker = speaker
        try:
            self._pattern = None if speaker in ("folder", "none") else re.compile(speaker)
        except re.error as error:
            raise ConfigError(
                f"Bad speaker {speaker!r}: expected folder, none or a regular expression ({error})."
            ) from error

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``anna/angry/01``)."""
        sounds, videos = self._files(SOUND), self._files(VIDEO)
        clips: list[Clip] = []
        other: list[str] = []
        for place, paths in sorted({**videos, **sounds}.items()):
            seen = videos.get(place, [])
            for path in paths:
                name = place if len(paths) == 1 else place.with_name(path.name)
                video = path if path in seen else next(iter(seen), None)
                clip = self._clip(name, path, video)
                if clip is None:
                    other.append(name.as_posix())
                else:
                    clips.append(clip)
        clips.sort(key=lambda clip: clip.clip_id)
        if not clips:
            raise missing(self, example=f"angry/01.wav (emotions: {', '.join(VOCABULARY)})")
        speakers = sorted({clip.speaker.partition("/")[2] for clip in clips if clip.speaker})
        if self.speaker == "folder" and len(speakers) == 1:  # one folder around all clips
            clips = [replace(clip, speaker="") for clip in clips]
            speakers = []
        self.notes = []
        if speakers and self.speaker == "folder":
            names = ", ".join(speakers[:5]) + (", …" if len(speakers) > 5 else "")
            self.notes.append(f"{len(speakers)} speakers, by the names of folders: {names}")
        if other:
            self.notes.append(
                f"{len(other)} files left out, in no folder named after an emotion (first: "
                f"{other[0]})"
            )
        return clips

    def _files(self, suffixes: tuple[str, ...]) -> dict[PurePath, list[PurePath]]:
        """Path below the root without its suffix, to the files."""
        files: dict[PurePath, list[PurePath]] = {}
        for path in files_below(self.root, suffixes=suffixes):
            files.setdefault(path.relative_to(self.root).with_suffix(""), []).append(path)
        return files

    def _clip(self, place: PurePath, path: PurePath, video: PurePath | None) -> Clip | None:
        folders = place.parts[:-1]
        words = [self.labels.get(name.lower()) or emotion_or_none(name) for name in folders]
        if not any(words):
            return None
        index = max(i for i, word in enumerate(words) if word)
        parts = [part for part in map(part_of, folders) if part]
        return Clip(
            path=path,
            clip_id=place.as_posix(),
            emotion=words[index],
            speaker=self._speaker(path, folders, index),
            corpus=self.name,
            video=video,
            part=parts[-1] if parts else None,
        )

    def _speaker(self, path: PurePath, folders: tuple[str, ...], index: int) -> str:
        if self.speaker == "none":
            return ""
        if self._pattern is not None:
            match = self._pattern.search(path.relative_to(self.root).as_posix())
            word = (match[1] if match.re.groups else match[0]) if match else None
            return f"{self.name}/{word}" if word else ""
        around = [*folders[index + 1 :][:1], *folders[:index][-1:]]
        names = [name for name in around if part_of(name) is None]
        return f"{self.name}/{names[0]}" if names else ""
