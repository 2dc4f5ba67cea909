"""CREMA-D: 91 actors, 12 sentences, six emotions, sound and video, with votes of a crowd."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Literal, get_args

from avser.errors import ConfigError, CorpusError, unknown
from avser.types import Clip, Corpus

from ._layout import SOUND, VIDEO, emotion_of, missing, named, table

EMOTIONS = {
    "ANG": "angry",
    "DIS": "disgust",
    "FEA": "fearful",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
VOTES = {word[0]: emotion for word, emotion in EMOTIONS.items()}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": ""}

Target = Literal["acted", "voice", "face", "both"]
_COLUMNS = {"voice": "VoiceVote", "face": "FaceVote", "both": "MultiModalVote"}
_SUMMARY = "summaryTable.csv"
_DEMOGRAPHICS = "VideoDemographics.csv"

# The owners' 1040_ITH_SAD_X lacks the last X, which its row in the summary has.
_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX?)")
_Row = Mapping[str, str]


class CremaD(Corpus):
    """CREMA-D: ``AudioWAV/1001_DFA_ANG_XX.wav``, with ``VideoFlash/….flv`` where that is there.

    ``1076_MTI_SAD_XX`` has no sound; it stays a clip, for its face.

    Args:
        root: folder of the corpus.
        label_target: what is the label: the emotion that was acted, or what most people said
            who only heard ("voice"), only saw ("face"), or heard and saw it ("both"). Clips
            whose vote is a tie (``A:D``) have no label and are dropped.
    """

    name = "crema_d"
    title = "CREMA-D"
    languages = ("English (American)",)
    licence = "ODbL 1.0"
    url = "https://github.com/CheyneyComputerScience/CREMA-D"
    citation = (
        "Cao H, Cooper DG, Keutmann MK, Gur RC, Nenkova A, Verma R (2014). CREMA-D: "
        "Crowd-Sourced Emotional Multimodal Actors Dataset. IEEE Transactions on Affective "
        "Computing 5(4): 377-390. doi:10.1109/TAFFC.2014.2336244"
    )

    def __init__(self, root: str | Path | None = None, *, label_target: Target = "acted") -> None:
        super().__init__(root)
        if label_target not in get_args(Target):
            raise ConfigError(unknown("CREMA-D label_target", label_target, get_args(Target)))
        self.label_target = label_target

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``1001_DFA_ANG_XX``)."""
        result = named(self.root, pattern=_NAME, suffixes=SOUND)
        if not result:
            raise missing(self, example="AudioWAV/1001_DFA_ANG_XX.wav")
        flash = named(self.root, pattern=_NAME, suffixes=VIDEO)
        videos = {_clip_id(match): path for path, match in flash}
        votes = {row.get("FileName", ""): row for row in self._summary()}
        people = table(self.root, name=_DEMOGRAPHICS) or []
        actors = {row.get("ActorID", ""): row for row in people}
        clips: list[Clip] = []
        for path, match in result:
            clip_id = _clip_id(match)
            emotion = self._label(path, match, votes.get(clip_id))
            if emotion is not None:
                clips.append(
                    Clip(
                        path=path,
                        clip_id=clip_id,
                        emotion=emotion,
                        speaker=f"{self.name}/{match[1]}",
                        corpus=self.name,
                        video=videos.get(clip_id),
                        sex=actors.get(match[1], {}).get("Sex", "").lower(),
                        sentence=match[2],
                        attributes=_attributes(match, actors.get(match[1]), votes.get(clip_id)),
                    )
                )
        return sorted(clips, key=lambda clip: clip.clip_id)

    def _summary(self) -> list[dict[str, str]]:
        result = table(self.root, name=_SUMMARY)
        if result is None and self.label_target != "acted":
            raise CorpusError(
                f"Bad CREMA-D root {str(self.root)!r}: label_target {self.label_target!r} needs "
                f"processedResults/{_SUMMARY}, which is not there; get it from {self.url}, or "
                "set label_target to 'acted'."
            )
        return result or []

    def _label(self, path: PurePath, match: re.Match[str], votes: _Row | None) -> str | None:
        """Find the clip's emotion; None where the crowd's vote is a tie."""
        acted = emotion_of(match[3], codes=EMOTIONS, path=path)
        if self.label_target == "acted":
            return acted
        column = _COLUMNS[self.label_target]
        vote = (votes or {}).get(column, "")
        if not vote:
            raise CorpusError(
                f"Bad {_SUMMARY}: it has no {column} for {_clip_id(match)}; get the whole table "
                f"from {self.url}, or set label_target to 'acted'."
            )
        return None if ":" in vote else emotion_of(vote, codes=VOTES, path=path)


def _clip_id(match: re.Match[str]) -> str:
    return match[0] if len(match[4]) > 1 else f"{match[0]}X"


def _attributes(match: re.Match[str], actor: _Row | None, votes: _Row | None) -> dict[str, str]:
    result = {"acted": EMOTIONS[match[3]], "intensity": INTENSITIES.get(match[4], "")}
    if actor is not None:
        result["age"] = actor.get("Age", "")
    for target, column in _COLUMNS.items():
        if votes is not None and column in votes:
            result[f"{target}_vote"] = votes[column]
    return result
