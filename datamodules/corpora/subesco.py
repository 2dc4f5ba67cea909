"""SUBESCO: twenty Bangla actors, ten sentences, seven emotions, sound only."""

from __future__ import annotations

import re

from avser.types import Clip, Corpus

from ._layout import SOUND, emotion_of, missing, named

EMOTIONS = {
    "ANGRY": "angry",
    "DISGUST": "disgust",
    "FEAR": "fearful",
    "HAPPY": "happy",
    "NEUTRAL": "neutral",
    "SAD": "sad",
    "SURPRISE": "surprised",
}
_NAME = re.compile(r"([FM])_(\d+)_([A-Z]+)_S_(\d+)_([A-Z]+)_(\d)", re.IGNORECASE)


class Subesco(Corpus):
    """SUBESCO: ``F_02_MONIKA_S_1_NEUTRAL_5.wav`` is woman 02, sentence 1, neutral, take 5."""

    name = "subesco"
    title = "SUBESCO"
    licence = "CC BY 4.0"
    url = "https://zenodo.org/record/4526477"
    citation = (
        "Sultana S, Rahman MS, Selim MR, Iqbal MZ (2021). SUST Bangla Emotional Speech Corpus "
        "(SUBESCO). PLoS ONE 16(4): e0250173. doi:10.1371/journal.pone.0250173"
    )
    languages = ("Bangla",)

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``F_02_S_1_NEUTRAL_5``)."""
        clips = []
        for path, match in named(self.root, pattern=_NAME, suffixes=SOUND):
            sex, number, _, sentence, code, take = (part.upper() for part in match.groups())
            clips.append(
                Clip(
                    path=path,
                    clip_id=f"{sex}_{number}_S_{sentence}_{code}_{take}",
                    emotion=emotion_of(code, codes=EMOTIONS, path=path),
                    speaker=f"{self.name}/{sex}_{number}",  # men and women are numbered apart
                    corpus=self.name,
                    sex={"F": "female", "M": "male"}[sex],
                    sentence=sentence,
                    attributes={"take": take},
                )
            )
        if not clips:
            raise missing(self, example="F_02_MONIKA_S_1_NEUTRAL_5.wav")
        return sorted(clips, key=lambda clip: clip.clip_id)
