"""Fake of SAVEE."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take, write_film, write_text
from avser.testing.media import write_wav


def fake_savee(
    root: Path, *, speakers: Speakers = 4, per_emotion: int = 2, video: bool = False
) -> Path:
    """Write SAVEE: ``AudioData/DC/a01.wav`` and, with ``video``, ``AudioVisualClip/DC/a1.avi``."""
    codes = {
        "a": "angry",
        "d": "disgust",
        "f": "fearful",
        "h": "happy",
        "n": "neutral",
        "sa": "sad",
        "su": "surprised",
    }
    for speaker in speaker_names(speakers, ("DC", "JE", "JK", "KL")):
        who = f"savee/{speaker}"
        for (code, emotion), number in product(codes.items(), range(1, per_emotion + 1)):
            sound = take(emotion, speaker=who, seed=number, sample_rate=44_100)
            path = root / "AudioData" / speaker / f"{code}{number:02d}.wav"
            write_wav(path, sound, sample_rate=44_100)
            if video:
                film = root / "AudioVisualClip" / speaker / f"{code}{number}.avi"
                write_film(film, emotion, speaker=who, seed=number, sample_rate=44_100)
    write_text(root / "AudioData" / "Info.txt", ["SAVEE"])
    return root
