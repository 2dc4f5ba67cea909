"""EMO-DB, the Berlin database: ten actors, ten German sentences, seven emotions, sound only."""

from __future__ import annotations

import re

from avser.types import Clip, Corpus

from ._layout import SOUND, emotion_of, missing, named

EMOTIONS = {  # first letters of the German words: Wut, Langeweile, Ekel, Angst, Freude, Trauer
    "W": "angry",
    "L": "bored",
    "E": "disgust",
    "A": "fearful",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
MEN = frozenset({"03", "10", "11", "12", "15"})

_NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])")


class EmoDb(Corpus):
    """EMO-DB: ``wav/03a01Fa.wav`` is speaker 03, text a01, Freude, version a."""

    name = "emodb"
    title = "EMO-DB"
    languages = ("German",)
    licence = "free for use, to be cited"
    url = "http://emodb.bilderbar.info/"
    citation = (
        "Burkhardt F, Paeschke A, Rolfes M, Sendlmeier W, Weiss B (2005). A Database of German "
        "Emotional Speech. Interspeech 2005, 1517-1520"
    )

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``03a01Fa``)."""
        clips: list[Clip] = []
        for path, match in named(self.root, pattern=_NAME, suffixes=SOUND):
            speaker, text, code, version = match.groups()
            clips.append(
                Clip(
                    path=path,
                    clip_id=match[0],
                    emotion=emotion_of(code, codes=EMOTIONS, path=path),
                    speaker=f"{self.name}/{speaker}",
                    corpus=self.name,
                    sex="male" if speaker in MEN else "female",
                    sentence=text,
                    attributes={"version": version, "text": TEXTS.get(text, "")},
                )
            )
        if not clips:
            raise missing(self, example="wav/03a01Fa.wav")
        return sorted(clips, key=lambda clip: clip.clip_id)
