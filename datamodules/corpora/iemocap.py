"""IEMOCAP: five sessions of a woman and a man, scripted and improvised, sound and video."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from avser.errors import CorpusError
from avser.stores import read_bytes
from avser.types import Clip, Corpus

from ._layout import SOUND, emotion_of, files_below, missing, named

EMOTIONS = {
    "ang": "angry",
    "hap": "happy",
    "exc": "excited",
    "sad": "sad",
    "fru": "frustrated",
    "fea": "fearful",
    "sur": "surprised",
    "neu": "neutral",
    "dis": "disgust",
}
UNLABELLED = frozenset({"xxx", "oth"})  # the annotators did not agree, or agreed on another word

# Ses01F_impro01_F000: the letter of the first part is who wears the markers, the letter of the
# last part is who speaks.
_UTTERANCE = re.compile(r"(Ses\d\d)[FM]_(\w+)_([FM])\w+")
_LINE = re.compile(
    r"\[\s*[\d.]+\s*-\s*[\d.]+\s*\]\s+(?P<utterance>\S+)\s+(?P<label>\S+)\s+"
    r"\[\s*(?P<valence>[\d.]+),\s*(?P<activation>[\d.]+),\s*(?P<dominance>[\d.]+)\s*\]"
)
_EXAMPLE = (
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt and "
    "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
)


class Iemocap(Corpus):
    """IEMOCAP utterances with a label that most annotators agreed on; xxx and oth are dropped.

    Args:
        root: folder that holds ``Session1`` to ``Session5``.
        merge_excited: count excited as happy, as most papers of four classes do; what was
            labelled stays in the attribute ``label``.
    """

    name = "iemocap"
    title = "IEMOCAP"
    languages = ("English (American)",)
    licence = "research only, by signed release form"
    url = "https://sail.usc.edu/iemocap/"
    label_target = "both"  # annotators heard and saw the clips
    citation = (
        "Busso C, Bulut M, Lee CC, Kazemzadeh A, Mower E, Kim S, Chang JN, Lee S, Narayanan SS "
        "(2008). IEMOCAP: interactive emotional dyadic motion capture database. Language "
        "Resources and Evaluation 42: 335-359. doi:10.1007/s10579-008-9076-6"
    )

    def __init__(self, root: str | Path | None = None, *, merge_excited: bool = False) -> None:
        super().__init__(root)
        self.merge_excited = merge_excited

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``Ses01F_impro01_F000``)."""
        sounds = {
            match[0]: (path, match)
            for path, match in named(self.root, pattern=_UTTERANCE, suffixes=SOUND)
        }
        labels = list(self._labels())
        if not sounds or not labels:
            raise missing(self, example=_EXAMPLE)
        clips: dict[str, Clip] = {}
        for source, line in labels:
            if line["label"] in UNLABELLED:
                continue
            if line["utterance"] not in sounds:
                raise CorpusError(
                    f"Bad IEMOCAP root {str(self.root)!r}: {source.name} labels "
                    f"{line['utterance']}, but there is no {line['utterance']}.wav; get the "
                    f"sentences from {self.url}."
                )
            path, match = sounds[line["utterance"]]
            clips[match[0]] = self._clip(path, match, line, source)
        return [clips[clip_id] for clip_id in sorted(clips)]

    def _labels(self) -> Iterator[tuple[PurePath, re.Match[str]]]:
        """Lines of the evaluation files; those of single annotators lie one folder deeper."""
        for path in files_below(self.root, suffixes=(".txt",)):
            if path.parent.name == "EmoEvaluation":
                for line in read_bytes(path).decode("latin-1").splitlines():
                    match = _LINE.match(line)
                    if match is not None:
                        yield path, match

    def _clip(
        self, path: PurePath, name: re.Match[str], line: re.Match[str], source: PurePath
    ) -> Clip:
        session, dialog, letter = name.groups()
        emotion = emotion_of(line["label"], codes=EMOTIONS, path=source)
        if self.merge_excited and emotion == "excited":
            emotion = "happy"
        return Clip(
            path=path,
            clip_id=name[0],
            emotion=emotion,
            speaker=f"{self.name}/{session}{letter}",
            corpus=self.name,
            sex="female" if letter == "F" else "male",
            attributes={
                "label": line["label"],
                "dialog": dialog,
                "style": "scripted" if dialog.startswith("script") else "improvised",
                "valence": line["valence"],
                "activation": line["activation"],
                "dominance": line["dominance"],
            },
        )
