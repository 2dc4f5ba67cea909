"""Fake of ESD."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take, write_text
from avser.testing.media import write_wav


def fake_esd(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Write ESD: ``0011/Angry/0011_000351.wav`` and each speaker's text."""
    folders = ("Neutral", "Angry", "Happy", "Sad", "Surprise")
    emotions = ("neutral", "angry", "happy", "sad", "surprised")
    pool = ("0011", "0001", "0012", "0002", *(f"{n:04d}" for n in range(13, 21)))
    for speaker in speaker_names(speakers, pool):
        for place, number in product(range(5), range(1, per_emotion + 1)):
            who = f"esd/{speaker}"
            sound = take(emotions[place], speaker=who, seed=number, sample_rate=16_000)
            name = f"{speaker}_{350 * place + number:06d}.wav"
            write_wav(root / speaker / folders[place] / name, sound)
        write_text(root / speaker / f"{speaker}.txt", [f"{speaker}_000001\tA text.\tNeutral"])
    return root
