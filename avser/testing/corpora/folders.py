"""Fake of folders of emotions."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.emotions import VOCABULARY
from avser.testing.corpora._takes import Speakers, speaker_names, take, write_junk
from avser.testing.media import write_wav


def fake_folders(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Folders named after speakers and emotions: ``anna/Anger/0.wav``."""
    for speaker in speaker_names(speakers, ("anna", "ben", "cleo", "dan", "eva", "finn")):
        for emotion, seed in product(VOCABULARY[:5], range(per_emotion)):
            sound = take(emotion, speaker=f"folders/{speaker}", seed=seed, sample_rate=16_000)
            write_wav(root / speaker / emotion.title() / f"{seed}.wav", sound)
        write_junk(root / speaker, "0.wav")
    return root
