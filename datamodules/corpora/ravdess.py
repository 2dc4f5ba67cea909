"""RAVDESS: 24 actors, 2 statements, 8 emotions, spoken (and sung), sound and video."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from pathlib import Path, PurePath
from typing import Literal

from avser.errors import ConfigError, CorpusError, unknown
from avser.stores import as_path
from avser.types import Clip, Corpus

from ._layout import SOUND, VIDEO, beside, emotion_of, missing, named, rows

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
INTENSITIES = {"01": "normal", "02": "strong"}
CHANNELS = {"01": "speech", "02": "song"}
AV, VIDEO_ONLY, AUDIO_ONLY = "01", "02", "03"
SONG = "02"

_NAME = re.compile(r"\d\d(?:-\d\d){6}")


@dataclass(frozen=True)
class Take:
    """The seven two-digit parts of a RAVDESS file name, in their order.

    >>> str(Take.parse("03-01-06-01-02-01-12"))
    '03-01-06-01-02-01-12'
    """

    modality: str
    channel: str
    emotion: str
    intensity: str
    statement: str
    repetition: str
    actor: str

    @classmethod
    def parse(cls, stem: str) -> Take:
        """Read a file name without its suffix.

        Raises:
            CorpusError: the name does not have the seven parts.
        """
        if _NAME.fullmatch(stem) is None:
            raise CorpusError(
                f"Bad RAVDESS name {stem!r}: expected seven two-digit parts, "
                "as in 03-01-06-01-02-01-12."
            )
        return cls(*stem.split("-"))

    def __str__(self) -> str:
        return "-".join(astuple(self))

    @property
    def performance(self) -> tuple[str, ...]:
        """Key shared by the audio file and the video of one take: all but the modality."""
        return astuple(self)[1:]


class Ravdess(Corpus):
    """RAVDESS speech, and song if asked for.

    Read are ``Actor_NN/03-01-….wav``, ``Audio_Speech_Actors_01-24/Actor_NN/…``,
    ``Video_Speech_Actor_NN/Actor_NN/01-01-….mp4`` and ``Actor_NN/01-01-….mp4``, at any depth.

    Args:
        root: folder of the corpus.
        song: take the sung takes too (channel 02; they have no disgust and no surprise).
        modality: "audio" takes the sound from the audio-only files (03-…) and pairs each with
            the video of the same take; "av" takes sound and picture from the AV files (01-…).
        video_root: folder of the videos; None looks below the root and, where it exists, in
            the sibling folder ``<root>_video``.
        features: OpenFace table with a row a take, keyed by its column ``name``, or a ``.npz`` of
            ``avser features`` over the videos; "auto" is
            ``<root>_openface_aus.csv``. A clip's ``features`` is then ``<table>#<key>``, or None
            where the table lacks the take.
    """

    name = "ravdess"
    title = "RAVDESS"
    languages = ("English (North American)",)
    licence = "CC BY-NC-SA 4.0"
    url = "https://zenodo.org/records/1188976"
    citation = (
        "Livingstone SR, Russo FA (2018). The Ryerson Audio-Visual Database of Emotional Speech "
        "and Song (RAVDESS). PLoS ONE 13(5): e0196391. doi:10.1371/journal.pone.0196391"
    )

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        song: bool = False,
        modality: Literal["audio", "av"] = "audio",
        video_root: str | Path | None = None,
        features: str | Path | None = None,
    ) -> None:
        super().__init__(root)
        if modality not in ("audio", "av"):
            raise ConfigError(unknown("RAVDESS modality", modality, ("audio", "av")))
        self.song = song
        self.modality = modality
        self.video_root = as_path(video_root) if video_root is not None else None
        table = beside(self.root, "_openface_aus.csv") if features == "auto" else features
        self.features = as_path(table) if table is not None else None

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (the file's own name)."""
        videos = self._videos()
        keys = frozenset() if self.features is None else self._feature_keys(self.features)
        if self.modality == "av":
            example = "Actor_12/01-01-06-01-02-01-12.mp4"
            result = [(path, take) for path, take in videos if take.modality == AV]
        else:
            example = "Actor_12/03-01-06-01-02-01-12.wav"
            result = [(p, t) for p, t in self._takes(self.root, SOUND) if t.modality == AUDIO_ONLY]
        if not result:
            raise missing(self, example=example)
        # Video-only files show the same take as the AV file: they serve where that is absent.
        pictures = {take.performance: path for path, take in reversed(videos)}
        clips = [self._clip(p, t, pictures.get(t.performance), keys) for p, t in result]
        return sorted(clips, key=lambda clip: clip.clip_id)

    def _takes(self, root: PurePath, suffixes: tuple[str, ...]) -> list[tuple[PurePath, Take]]:
        result = named(root, pattern=_NAME, suffixes=suffixes)
        takes = [(path, Take.parse(match[0])) for path, match in result]
        return [(path, take) for path, take in takes if self.song or take.channel != SONG]

    def _videos(self) -> list[tuple[PurePath, Take]]:
        """AV files first, then video-only files."""
        if self.video_root is not None:
            roots = [self.video_root]
        else:
            roots = [self.root, beside(self.root, "_video")]
        result = [pair for root in roots for pair in self._takes(root, VIDEO)]
        if self.video_root is not None and not result:
            raise CorpusError(
                f"Bad RAVDESS video root {str(self.video_root)!r}: it holds no files like "
                f"Actor_12/01-01-06-01-02-01-12.mp4; get the videos from {self.url}."
            )
        return sorted(result, key=lambda pair: pair[1].modality)

    @staticmethod
    def _feature_keys(path: PurePath) -> frozenset[str]:
        from avser.media.visual_features import feature_keys, local_table

        if path.suffix == ".npz":
            return feature_keys(path)
        table = rows(local_table(path))
        if not table or "name" not in table[0][1]:
            raise CorpusError(
                f"Bad feature table {str(path)!r}: expected a column 'name' with keys "
                "such as 01-01-06-01-02-01-12, and at least one row."
            )
        return frozenset(row["name"] for _, row in table)

    def _clip(
        self, path: PurePath, take: Take, video: PurePath | None, keys: frozenset[str]
    ) -> Clip:
        tail = "-".join(take.performance)
        rows_of_take = (f"{modality}-{tail}" for modality in (AV, VIDEO_ONLY, AUDIO_ONLY))
        key = next((key for key in rows_of_take if key in keys), None)
        return Clip(
            path=path,
            clip_id=path.stem,
            emotion=emotion_of(take.emotion, codes=EMOTIONS, path=path),
            speaker=f"{self.name}/{take.actor}",
            corpus=self.name,
            video=path if self.modality == "av" else video,
            features=f"{self.features}#{key}" if key else None,
            sex="male" if int(take.actor) % 2 else "female",  # odd actors are men
            sentence=take.statement,
            attributes={
                "channel": CHANNELS.get(take.channel, take.channel),
                "intensity": INTENSITIES.get(take.intensity, take.intensity),
                "repetition": take.repetition,
                "text": STATEMENTS.get(take.statement, ""),
            },
        )
