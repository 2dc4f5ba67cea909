"""URDU: 400 utterances cut from Urdu talk shows, four emotions, sound only."""

from __future__ import annotations

import re

from avser.types import Clip, Corpus

from ._layout import SOUND, emotion_of, missing, named

EMOTIONS = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}

# Who speaks is a guess, for the owners do not explain the name. Read as SM1 = speaker, a man;
# F1 = his file of that number; A01 = file of that number among the angry ones: the first parts
# then count to SM27 and SF11, the owners' 27 men and 11 women.
_NAME = re.compile(r"(S([MF])\d+)_(F\d+)_([A-Z])(\d+)", re.IGNORECASE)


class Urdu(Corpus):
    """URDU: ``Angry/SM1_F1_A01.wav``; the speaker (here SM1) is a guess from the name."""

    name = "urdu"
    title = "URDU"
    languages = ("Urdu",)
    licence = "research only"
    url = "https://github.com/siddiquelatif/URDU-Dataset"
    citation = (
        "Latif S, Qayyum A, Usman M, Qadir J (2018). Cross Lingual Speech Emotion Recognition: "
        "Urdu vs. Western Languages. FIT 2018, 88-93. doi:10.1109/FIT.2018.00023"
    )

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``SM1_F1_A01``)."""
        clips: list[Clip] = []
        for path, match in named(self.root, pattern=_NAME, suffixes=SOUND):
            clips.append(
                Clip(
                    path=path,
                    clip_id=match[0].upper(),
                    emotion=emotion_of(match[4].upper(), codes=EMOTIONS, path=path),
                    speaker=f"{self.name}/{match[1].upper()}",
                    corpus=self.name,
                    sex="male" if match[2].upper() == "M" else "female",
                    attributes={"speaker_known": "guessed from the name"},
                )
            )
        if not clips:
            raise missing(self, example="Angry/SM1_F1_A01.wav")
        return sorted(clips, key=lambda clip: clip.clip_id)
