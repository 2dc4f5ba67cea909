"""Fake of a CSV manifest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from avser.emotions import VOCABULARY
from avser.testing.corpora._takes import Speakers, speaker_names, take, write_csv
from avser.testing.media import write_flac


def fake_manifest(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Write ``manifest.csv`` beside a folder of FLAC files, with every optional column."""
    parts = ("train", "train", "validation", "test")
    table: list[Sequence[Any]] = [
        ("path", "emotion", "speaker", "start", "end", "part", "sex", "sentence", "room")
    ]
    for n, speaker in enumerate(
        speaker_names(speakers, ("anna", "ben", "cleo", "dan", "eva", "finn"))
    ):
        for emotion, seed in product(VOCABULARY[:5], range(per_emotion)):
            path = f"sound/{speaker}/{emotion}{seed}.flac"
            who = f"manifest/{speaker}"
            write_flac(root / path, take(emotion, speaker=who, seed=seed, sample_rate=16_000))
            sex = ("female", "male")[n % 2]
            table.append((path, emotion, speaker, "0.05", "", parts[n % 4], sex, seed, "hall"))
    write_csv(root / "manifest.csv", table)
    return root
