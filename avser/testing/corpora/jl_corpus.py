"""Fake of the JL corpus."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take, write_text
from avser.testing.media import write_wav


def fake_jl_corpus(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Write the JL corpus: ``JL(wav+txt)/female1_angry_10a_1.wav`` and a text of each."""
    codes = {e: e for e in ("angry", "excited", "happy", "neutral", "sad")} | {"anxious": "fearful"}
    folder = root / "Raw JL corpus (unchecked and unannotated)" / "JL(wav+txt)"
    names = speaker_names(speakers, ("female1", "male1", "female2", "male2"))
    for speaker, (code, emotion) in product(names, codes.items()):
        for number in range(1, per_emotion + 1):
            who = f"jl_corpus/{speaker}"
            sound = take(emotion, speaker=who, seed=number, sample_rate=44_100)
            stem = f"{speaker}_{code}_{number}a_1"
            write_wav(folder / f"{stem}.wav", sound, sample_rate=44_100)
            write_text(folder / f"{stem}.txt", ["A sentence."])
    return root
