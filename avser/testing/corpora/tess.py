"""Fake of TESS."""

from __future__ import annotations

from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take
from avser.testing.media import write_wav


def fake_tess(root: Path, *, speakers: Speakers = 2, per_emotion: int = 2) -> Path:
    """TESS: folders spelt in many ways, and one file of OAF that is called ``OA_bite_neutral``."""
    folders = {
        "OAF": ("angry", "disgust", "Fear", "happy", "neutral", "Pleasant_surprise", "Sad"),
        "YAF": ("angry", "disgust", "fear", "happy", "neutral", "pleasant_surprised", "sad"),
    }
    codes = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")
    words = ("bite", "back", "bar", "base", "bath", "bean", "beg", "boat", "bone", "book")
    spelt = {"fear": "fearful", "ps": "surprised"}
    for speaker in speaker_names(speakers, ("OAF", "YAF")):
        for folder, code in zip(folders[speaker], codes, strict=True):
            for seed, word in enumerate(words[:per_emotion]):
                odd = (speaker, word, code) == ("OAF", "bite", "neutral")
                stem = "OA_bite_neutral" if odd else f"{speaker}_{word}_{code}"
                emotion = spelt.get(code, code)
                who = f"tess/{speaker}"
                sound = take(emotion, speaker=who, seed=seed, sample_rate=24_414)
                path = root / f"{speaker}_{folder}" / f"{stem}.wav"
                write_wav(path, sound, sample_rate=24_414)
    return root
