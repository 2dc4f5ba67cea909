"""Fake of EMOVO."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take, write_text
from avser.testing.media import write_wav


def fake_emovo(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Write EMOVO: ``EMOVO/f1/dis-f1-b1.wav``."""
    codes = {
        "dis": "disgust",
        "gio": "happy",
        "neu": "neutral",
        "pau": "fearful",
        "rab": "angry",
        "sor": "surprised",
        "tri": "sad",
    }
    texts = ("b1", "b2", "b3", "l1", "l2", "l3", "l4", "n1", "n2", "n3", "n4", "n5", "d1", "d2")
    names = speaker_names(speakers, ("f1", "m1", "f2", "m2", "f3", "m3"))
    for speaker, (code, emotion) in product(names, codes.items()):
        for seed, text in enumerate(texts[:per_emotion]):
            sound = take(emotion, speaker=f"emovo/{speaker}", seed=seed, sample_rate=48_000)
            path = root / "EMOVO" / speaker / f"{code}-{speaker}-{text}.wav"
            write_wav(path, sound, sample_rate=48_000)
    write_text(root / "EMOVO" / "documents" / "README.txt", ["EMOVO"])
    return root
