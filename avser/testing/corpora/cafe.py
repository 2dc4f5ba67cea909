"""Fake of CaFE."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take, write_text
from avser.testing.media import write_wav


def fake_cafe(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Write CaFE: ``Colère/Faible/01-C-1-1.wav``; neutral has no folder of intensity."""
    folders = {
        "Colère": "angry",
        "Dégoût": "disgust",
        "Joie": "happy",
        "Neutre": "neutral",
        "Peur": "fearful",
        "Surprise": "surprised",
        "Tristesse": "sad",
    }
    pool = tuple(f"{n:02d}" for n in range(1, 13))
    for actor, (folder, emotion) in product(speaker_names(speakers, pool), folders.items()):
        for take_number in range(per_emotion):
            strong = take_number % 2 == 1 and emotion != "neutral"
            intensity = () if emotion == "neutral" else ("Fort" if strong else "Faible",)
            who = f"cafe/{actor}"
            sound = take(emotion, speaker=who, seed=take_number, sample_rate=48_000)
            sentence = take_number + 1 if emotion == "neutral" else take_number // 2 + 1
            name = f"{actor}-{folder[0]}-{1 + strong}-{sentence}.wav"
            write_wav(root.joinpath(folder, *intensity, name), sound, sample_rate=48_000)
    write_text(root / "Readme.txt", ["CaFE"])
    return root
