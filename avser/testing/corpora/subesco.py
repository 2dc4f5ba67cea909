"""Fake of SUBESCO."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take
from avser.testing.media import write_wav


def fake_subesco(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Write SUBESCO: ``F_02_MONIKA_S_1_NEUTRAL_5.wav``, flat."""
    codes = {
        "ANGRY": "angry",
        "DISGUST": "disgust",
        "FEAR": "fearful",
        "HAPPY": "happy",
        "NEUTRAL": "neutral",
        "SAD": "sad",
        "SURPRISE": "surprised",
    }
    pool = ("F_02_MONIKA", "M_02_RAJU", *(f"{s}_{n:02d}_NAME" for n in range(3, 12) for s in "FM"))
    for speaker, (code, emotion) in product(speaker_names(speakers, pool), codes.items()):
        for number in range(1, per_emotion + 1):
            sound = take(emotion, speaker=f"subesco/{speaker}", seed=number, sample_rate=48_000)
            path = root / "SUBESCO" / f"{speaker}_S_{number}_{code}_5.wav"
            write_wav(path, sound, sample_rate=48_000)
    return root
