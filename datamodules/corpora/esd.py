"""ESD: ten Mandarin and ten English speakers, 350 sentences, five emotions, sound only."""

from __future__ import annotations

import re
from typing import Literal

from avser.types import Clip, Corpus

from ._layout import SOUND, missing, named

#: The owners number a speaker's files by emotion, 350 each, in this order.
EMOTIONS = ("neutral", "angry", "happy", "sad", "surprised")
_SENTENCES = 350
_FIRST_ENGLISH = 11  # of twenty speakers
_NAME = re.compile(r"(\d{4})_(\d{6})")


class Esd(Corpus):
    """ESD: ``0011/Angry/0011_000351.wav``, perhaps below ``train``, ``evaluation`` and ``test``.

    The emotion follows from the file's number. The owners' parts hold the same speakers, so that
    they are not taken over.

    Args:
        root: see `Corpus`.
        language: "english", "mandarin", or "all".
    """

    name = "esd"
    title = "ESD"
    licence = "research only"
    url = "https://github.com/HLTSingapore/Emotional-Speech-Data"
    citation = (
        "Zhou K, Sisman B, Liu R, Li H (2021). Seen and Unseen Emotional Style Transfer for Voice "
        "Conversion with a New Emotional Speech Dataset. ICASSP 2021, 920-924"
    )

    def __init__(
        self,
        root: str | None = None,
        *,
        language: Literal["english", "mandarin", "all"] = "all",
    ) -> None:
        super().__init__(root)
        self.language = language
        both = {"english": "English", "mandarin": "Mandarin"}
        self.languages = tuple(both.values()) if language == "all" else (both[language],)

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``0011_000351``)."""
        clips = []
        for path, match in named(self.root, pattern=_NAME, suffixes=SOUND):
            speaker, number = match[1], int(match[2]) - 1
            english = int(speaker) >= _FIRST_ENGLISH
            spoken = "english" if english else "mandarin"
            if self.language not in ("all", spoken) or number // _SENTENCES >= len(EMOTIONS):
                continue
            clips.append(
                Clip(
                    path=path,
                    clip_id=match[0],
                    emotion=EMOTIONS[number // _SENTENCES],
                    speaker=f"{self.name}/{speaker}",
                    corpus=self.name,
                    sentence=f"{spoken}{number % _SENTENCES + 1}",
                    attributes={"language": spoken},
                )
            )
        if not clips:
            raise missing(self, example="0011/Angry/0011_000351.wav")
        return sorted(clips, key=lambda clip: clip.clip_id)
