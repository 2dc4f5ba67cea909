"""EMOVO: six Italian actors, fourteen sentences, seven emotions, sound only."""

from __future__ import annotations

import re

from avser.types import Clip, Corpus

from ._layout import SOUND, emotion_of, missing, named

EMOTIONS = {  # disgusto, gioia, neutro, paura, rabbia, sorpresa, tristezza
    "dis": "disgust",
    "gio": "happy",
    "neu": "neutral",
    "pau": "fearful",
    "rab": "angry",
    "sor": "surprised",
    "tri": "sad",
}
_NAME = re.compile(r"([a-z]{3})-([fm])(\d)-([a-z]\d)", re.IGNORECASE)


class Emovo(Corpus):
    """EMOVO: ``EMOVO/f1/dis-f1-b1.wav`` is disgust by woman 1, sentence b1; also flat."""

    name = "emovo"
    title = "EMOVO"
    licence = "research only"
    url = "http://voice.fub.it/activities/corpora/emovo/index.html"
    citation = (
        "Costantini G, Iaderola I, Paoloni A, Todisco M (2014). EMOVO Corpus: an Italian "
        "Emotional Speech Database. LREC 2014, 3501-3504"
    )
    languages = ("Italian",)

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``dis-f1-b1``)."""
        clips = []
        for path, match in named(self.root, pattern=_NAME, suffixes=SOUND):
            code, sex, number, sentence = (part.lower() for part in match.groups())
            clips.append(
                Clip(
                    path=path,
                    clip_id=match[0].lower(),
                    emotion=emotion_of(code, codes=EMOTIONS, path=path),
                    speaker=f"{self.name}/{sex}{number}",
                    corpus=self.name,
                    sex={"f": "female", "m": "male"}[sex],
                    sentence=sentence,
                )
            )
        if not clips:
            raise missing(self, example="EMOVO/f1/dis-f1-b1.wav")
        return sorted(clips, key=lambda clip: clip.clip_id)
