"""Fake of EMO-DB."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take, write_text
from avser.testing.media import write_wav


def fake_emodb(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """EMO-DB: ``wav/03a01Fa.wav``, beside folders of label files."""
    codes = {
        "W": "angry",
        "L": "bored",
        "E": "disgust",
        "A": "fearful",
        "F": "happy",
        "T": "sad",
        "N": "neutral",
    }
    texts = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
    pool = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    for speaker, (code, emotion) in product(speaker_names(speakers, pool), codes.items()):
        for seed, text in enumerate(texts[:per_emotion]):
            sound = take(emotion, speaker=f"emodb/{speaker}", seed=seed, sample_rate=16_000)
            write_wav(root / "wav" / f"{speaker}{text}{code}a.wav", sound)
    write_text(root / "silb" / "03a01Fa.silb", ["0.1 a"])
    write_text(root / "erkennung.txt", ["03a01Fa 95"])
    return root
