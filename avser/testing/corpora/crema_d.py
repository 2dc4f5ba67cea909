"""Fake of CREMA-D."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from avser.testing.corpora._takes import Speakers, speaker_names, take, write_csv, write_film
from avser.testing.media import write_wav


def fake_crema_d(
    root: Path, *, speakers: Speakers = 4, per_emotion: int = 2, video: bool = False
) -> Path:
    """CREMA-D: a soundless file of 1076, a file of 1040 that lacks an X, votes with a tie.

    The crowd says what was acted, except that it is torn (``A:D``) over the voice of the first
    angry clip, and takes the face of the first speaker's disgusted clips for angry.
    """
    actors = speaker_names(speakers, ("1001", "1002", "1040", "1076", *map(str, range(1003, 1040))))
    first = {"1040": ("ITH", "XX"), "1076": ("MTI", "XX")}
    targets = ("Voice", "Face", "MultiModal")
    votes: list[list[object]] = [
        ["", "FileName", *(f"{t}{what}" for t in targets for what in ("Vote", "Level"))]
    ]
    emotions = ("angry", "disgust", "fearful", "happy", "neutral", "sad")
    others = (("IEO", "HI"), ("IEO", "LO"), ("IEO", "MD"), ("TIE", "XX"), ("WSI", "XX"))
    for actor, emotion in product(actors, emotions):
        code = emotion[:3].upper()
        takes = (first.get(actor, ("DFA", "XX")), *others)[:per_emotion]
        for seed, (text, strength) in enumerate(takes):
            name = f"{actor}_{text}_{code}_{strength}"
            sound = take(emotion, speaker=f"crema_d/{actor}", seed=seed, sample_rate=16_000)
            if name == "1076_MTI_SAD_XX":
                sound = np.zeros_like(sound)
            stem = name[:-1] if name == "1040_ITH_SAD_XX" else name
            write_wav(root / "AudioWAV" / f"{stem}.wav", sound)
            if video:
                film = root / "VideoFlash" / f"{name}.flv"
                who = f"crema_d/{actor}"
                write_film(film, emotion, speaker=who, seed=seed, sample_rate=44_100)
            letter = code[0]
            torn = "A:D" if len(votes) == 1 else letter
            face = "A" if (actor, code) == (actors[0], "DIS") else letter
            votes.append([len(votes), name, torn, "70", face, "65", letter, "80"])
    votes.append([len(votes), "1006_TIE_NEU_XX", "N", "70", "N", "65", "N", "80"])  # has no file
    write_csv(root / "processedResults" / "summaryTable.csv", votes)
    people = [[actor, 30 + n, ("Male", "Female")[n % 2]] for n, actor in enumerate(actors)]
    demographics = [[*row, "Caucasian", "Not Hispanic"] for row in people]
    header = ["ActorID", "Age", "Sex", "Race", "Ethnicity"]
    write_csv(root / "VideoDemographics.csv", [header, *demographics])
    return root
