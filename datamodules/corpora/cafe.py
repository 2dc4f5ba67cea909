"""CaFE: twelve actors of Québec, six French sentences, seven emotions, sound only."""

from __future__ import annotations

import re

from avser.types import Clip, Corpus

from ._layout import SOUND, emotion_of, missing, named

EMOTIONS = {  # colère, dégoût, joie, neutralité, peur, surprise, tristesse
    "C": "angry",
    "D": "disgust",
    "J": "happy",
    "N": "neutral",
    "P": "fearful",
    "S": "surprised",
    "T": "sad",
}
_NAME = re.compile(r"(\d\d)-([A-Z])-(\d)-(\d)")


class Cafe(Corpus):
    """CaFE: ``Colère/Faible/01-C-1-1.wav`` is actor 01, anger, weak, sentence 1; also flat.

    Actors of odd numbers are men, of even numbers women. Both rates of the owners' archives are
    read; of two copies of a take the one nearer to the root counts.
    """

    name = "cafe"
    title = "CaFE"
    licence = "CC BY-NC-SA 4.0"
    url = "https://zenodo.org/record/1478765"
    citation = (
        "Gournay P, Lahaie O, Lefebvre R (2018). A Canadian French Emotional Speech Dataset. "
        "ACM Multimedia Systems Conference 2018, 399-402. doi:10.1145/3204949.3208121"
    )
    languages = ("French (Canadian)",)

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``01-C-1-1``)."""
        clips = []
        for path, match in named(self.root, pattern=_NAME, suffixes=(*SOUND, ".aiff", ".aif")):
            actor, code, intensity, sentence = match.groups()
            clips.append(
                Clip(
                    path=path,
                    clip_id=match[0],
                    emotion=emotion_of(code, codes=EMOTIONS, path=path),
                    speaker=f"{self.name}/{actor}",
                    corpus=self.name,
                    sex="male" if int(actor) % 2 else "female",
                    sentence=sentence,
                    attributes={"intensity": {"1": "weak", "2": "strong"}.get(intensity, "")},
                )
            )
        if not clips:
            raise missing(self, example="Colère/Faible/01-C-1-1.wav")
        return sorted(clips, key=lambda clip: clip.clip_id)
