"""Fake of IEMOCAP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, take, write_junk, write_text
from avser.testing.media import write_wav


def _iemocap_lines(name: str, labels: Mapping[str, str]) -> Iterator[str]:
    yield "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
    yield ""
    for n, (utterance, label) in enumerate(labels.items()):
        times, degrees = f"[{6 + n}.2901 - {7 + n}.2357]", "[2.5000, 2.5000, 2.5000]"
        yield f"{times}\t{name}_{utterance}\t{label}\t{degrees}"
        yield "C-E2:\tNeutral;\t()"
        yield ""


def fake_iemocap(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """IEMOCAP: both speakers in one dialog, labels xxx and oth, files of single annotators.

    Speakers are called ``Ses01F``, ``Ses01M``, ``Ses02F``, ...
    """
    codes = {
        "ang": "angry",
        "hap": "happy",
        "exc": "excited",
        "sad": "sad",
        "fru": "frustrated",
        "neu": "neutral",
        "xxx": "calm",
        "oth": "bored",
    }
    pool = [f"Ses{n:02d}{letter}" for n, letter in product(range(1, 6), "FM")]
    sessions: dict[str, dict[str, str]] = {}
    for speaker in speaker_names(speakers, pool):
        name = f"{speaker[:5]}F_impro01"  # the woman wears the markers, both speak
        folder = root / f"Session{int(speaker[3:5])}"
        labels = sessions.setdefault(speaker[:5], {})
        for n, (code, seed) in enumerate(product(codes, range(per_emotion))):
            utterance = f"{speaker[5]}{n:03d}"
            labels[utterance] = code
            who = f"iemocap/{speaker}"
            sound = take(codes[code], speaker=who, seed=seed, sample_rate=16_000)
            write_wav(folder / "sentences" / "wav" / name / f"{name}_{utterance}.wav", sound)
        write_junk(folder / "sentences" / "wav" / name, f"{name}_F000.wav")
        evaluation = folder / "dialog" / "EmoEvaluation"
        write_text(evaluation / f"{name}.txt", _iemocap_lines(name, labels))
        write_text(evaluation / "Categorical" / f"{name}_e1_cat.txt", [f"{name}_F000 :neutral; ()"])
        write_junk(evaluation, f"{name}.txt")
    return root
