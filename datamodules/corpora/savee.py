"""SAVEE: four men of one university, TIMIT sentences, seven emotions, sound and video."""

from __future__ import annotations

import re
from pathlib import PurePath

from avser.types import Clip, Corpus

from ._layout import SOUND, VIDEO, emotion_of, files_below, missing

EMOTIONS = {
    "a": "angry",
    "d": "disgust",
    "f": "fearful",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprised",
}
SPEAKERS = ("DC", "JE", "JK", "KL")
_COMMON = 3  # sentences 1 to 3 of every emotion are the same three

_FLAT = re.compile(rf"({'|'.join(SPEAKERS)})_([a-z]{{1,2}})(\d{{1,2}})", re.IGNORECASE)
_Key = tuple[str, str, int]


class Savee(Corpus):
    """SAVEE, as ``AudioData/DC/a01.wav`` or flat, ``DC_a01.wav``.

    A clip's video is ``AudioVisualClip/DC/a1.avi`` where that is there. The sentence is known
    to be shared for numbers 1 to 3 only; the others count as different from one another.
    """

    name = "savee"
    title = "SAVEE"
    languages = ("English (British)",)
    licence = "research only"
    url = "http://kahlan.eps.surrey.ac.uk/savee/"
    citation = (
        "Haq S, Jackson PJB (2010). Multimodal Emotion Recognition. In: Machine Audition: "
        "Principles, Algorithms and Systems, IGI Global, 398-423"
    )

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``DC_a01``)."""
        sounds = self._find(SOUND)
        if not sounds:
            raise missing(self, example="AudioData/DC/a01.wav or DC_a01.wav")
        videos = self._find(VIDEO)
        clips = [self._clip(key, path, videos.get(key)) for key, path in sounds.items()]
        return sorted(clips, key=lambda clip: clip.clip_id)

    def _find(self, suffixes: tuple[str, ...]) -> dict[_Key, PurePath]:
        """Speaker, code and number to path; the file nearest to the root counts."""
        result: dict[_Key, PurePath] = {}
        for path in files_below(self.root, suffixes=suffixes):
            match = _FLAT.fullmatch(path.stem) or _FLAT.fullmatch(f"{path.parent.name}_{path.stem}")
            if match is not None:
                key = (match[1].upper(), match[2].lower(), int(match[3]))
                result.setdefault(key, path)
        return result

    def _clip(self, key: _Key, path: PurePath, video: PurePath | None) -> Clip:
        speaker, code, number = key
        return Clip(
            path=path,
            clip_id=f"{speaker}_{code}{number:02d}",
            emotion=emotion_of(code, codes=EMOTIONS, path=path),
            speaker=f"{self.name}/{speaker}",
            corpus=self.name,
            video=video,
            sex="male",
            sentence=f"common{number}" if number <= _COMMON else f"{code}{number:02d}",
        )
