"""Fake of nEMO."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take, write_text
from avser.testing.media import write_wav


def fake_nemo(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Write nEMO: ``samples/EB0_anger_1.wav`` at 24 kHz and ``data.tsv``."""
    codes = {
        "anger": "angry",
        "fear": "fearful",
        "happiness": "happy",
        "neutral": "neutral",
        "sadness": "sad",
        "surprised": "surprised",
    }
    pool = ("EB0", "SM0", "KS0", "MK0", "ESZ0", "FJ0", "JMI0", "JMA0", "WP0")
    head = "file_id emotion raw_text normalized_text speaker_id gender age"
    lines = ["\t".join(head.split())]
    for speaker, (code, emotion) in product(speaker_names(speakers, pool), codes.items()):
        for number in range(1, per_emotion + 1):
            sound = take(emotion, speaker=f"nemo/{speaker}", seed=number, sample_rate=24_000)
            name = f"{speaker}_{code}_{number}.wav"
            write_wav(root / "samples" / name, sound, sample_rate=24_000)
            sex = "female" if pool.index(speaker) % 2 == 0 else "male"
            cells = (name, code, f'Zdanie "{number}".', f"zdanie {number}", speaker, sex, "25")
            lines.append("\t".join(cells))
    write_text(root / "data.tsv", lines)
    return root
