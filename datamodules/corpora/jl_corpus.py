"""JL corpus: four New Zealanders, English sentences, five primary emotions, sound only."""

from __future__ import annotations

import re

from avser.types import Clip, Corpus

from ._layout import SOUND, missing, named

EMOTIONS = {
    "angry": "angry",
    "excited": "excited",
    "happy": "happy",
    "neutral": "neutral",
    "sad": "sad",
}
_NAME = re.compile(r"(female|male)(\d)_([a-z]+)_(\d+[a-z]?)_(\d)", re.IGNORECASE)


class JlCorpus(Corpus):
    """JL corpus: ``JL(wav+txt)/female1_angry_10a_1.wav`` is woman 1, sentence 10a, take 1.

    Its secondary emotions, such as anxious and apologetic, are no words of the vocabulary: their
    clips are left out and counted in a note.
    """

    name = "jl_corpus"
    title = "JL corpus"
    licence = "CC0 1.0"
    url = "https://www.kaggle.com/datasets/tli725/jl-corpus"
    citation = (
        "James J, Tian L, Watson CI (2018). An Open Source Emotional Speech Corpus for Human Robot "
        "Interaction Applications. Interspeech 2018, 2768-2772"
    )
    languages = ("English (New Zealand)",)

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``female1_angry_10a_1``)."""
        clips, others = [], 0
        for path, match in named(self.root, pattern=_NAME, suffixes=SOUND):
            sex, number, code, sentence, take = (part.lower() for part in match.groups())
            if code not in EMOTIONS:
                others += 1
                continue
            clips.append(
                Clip(
                    path=path,
                    clip_id=match[0].lower(),
                    emotion=EMOTIONS[code],
                    speaker=f"{self.name}/{sex}{number}",
                    corpus=self.name,
                    sex=sex,
                    sentence=sentence,
                    attributes={"take": take},
                )
            )
        if not clips:
            raise missing(self, example="JL(wav+txt)/female1_angry_10a_1.wav")
        self.notes = [f"{others} clips of secondary emotions are left out"] if others else []
        return sorted(clips, key=lambda clip: clip.clip_id)
