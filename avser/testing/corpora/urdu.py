"""Fake of URDU."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take
from avser.testing.media import write_wav


def fake_urdu(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """URDU: ``Angry/SM1_F1_A01.wav``, numbered by speaker and within the emotion."""
    emotions = {"Angry": "angry", "Happy": "happy", "Neutral": "neutral", "Sad": "sad"}
    names = speaker_names(speakers, ("SM1", "SF1", "SM2", "SF2", *(f"SM{n}" for n in range(3, 28))))
    for folder, emotion in emotions.items():
        for n, (speaker, seed) in enumerate(product(names, range(1, per_emotion + 1)), start=1):
            sound = take(emotion, speaker=f"urdu/{speaker}", seed=seed, sample_rate=44_100)
            path = root / folder / f"{speaker}_F{seed}_{folder[0]}0{n}.wav"
            write_wav(path, sound, sample_rate=44_100)
    return root
