"""TESS: an older and a younger woman say 200 words in seven emotions, sound only."""

from __future__ import annotations

import re

from avser.types import Clip, Corpus

from ._layout import SOUND, emotion_of, missing, named

EMOTIONS = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fearful",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "surprised",  # pleasant surprise
    "sad": "sad",
}
AGES = {"OAF": "64", "YAF": "26"}

# The last part is the emotion whatever the folder says (folders are spelt in many ways). One
# file of the owners is called OA_bite_neutral: its speaker is OAF.
_NAME = re.compile(r"(OA|YA)F?_([a-z']+)_([a-z]+)", re.IGNORECASE)


class Tess(Corpus):
    """TESS: ``OAF_angry/OAF_back_angry.wav``; two speakers, so no speaker-independent training."""

    name = "tess"
    title = "TESS"
    languages = ("English (Canadian)",)
    licence = "CC BY-NC-ND 4.0"
    url = "https://doi.org/10.5683/SP2/E8H2MF"
    citation = (
        "Pichora-Fuller MK, Dupuis K (2020). Toronto emotional speech set (TESS). Borealis, V1. "
        "doi:10.5683/SP2/E8H2MF"
    )

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``OAF_back_angry``)."""
        clips: dict[str, Clip] = {}
        for path, match in named(self.root, pattern=_NAME, suffixes=SOUND):
            speaker, word, code = f"{match[1].upper()}F", match[2].lower(), match[3].lower()
            clip_id = f"{speaker}_{word}_{code}"
            clip = Clip(
                path=path,
                clip_id=clip_id,
                emotion=emotion_of(code, codes=EMOTIONS, path=path),
                speaker=f"{self.name}/{speaker}",
                corpus=self.name,
                sex="female",
                sentence=word,
                attributes={"age": AGES[speaker], "text": f"Say the word {word}"},
            )
            clips.setdefault(clip_id, clip)
        if not clips:
            raise missing(self, example="OAF_angry/OAF_back_angry.wav")
        return [clips[clip_id] for clip_id in sorted(clips)]
