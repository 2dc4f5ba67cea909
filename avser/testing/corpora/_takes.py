"""Takes, lists of speakers and small files, of which fakes of corpora are made."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from avser.errors import ConfigError
from avser.testing.media import Sound, face_frames, seed_of, voice, write_video

Speakers = int | Sequence[str]


def take(emotion: str, *, speaker: str, seed: int, sample_rate: int) -> Sound:
    seconds = 0.6 + seed_of(emotion, speaker, seed) % 7 * 0.1  # 0.6 to 1.2 s
    return voice(emotion, speaker=speaker, seconds=seconds, sample_rate=sample_rate, seed=seed)


def write_film(
    path: Path, emotion: str, *, speaker: str, seed: int, sample_rate: int, sound: bool = True
) -> None:
    samples = take(emotion, speaker=speaker, seed=seed, sample_rate=sample_rate)
    count = round(10 * len(samples) / sample_rate)
    frames = face_frames(emotion, speaker=speaker, count=count, seed=seed)
    write_video(path, frames, samples=samples if sound else None, sample_rate=sample_rate)


def speaker_names(speakers: Speakers, pool: Sequence[str]) -> list[str]:
    if isinstance(speakers, int):
        if not 0 < speakers <= len(pool):
            raise ConfigError(f"Bad speakers {speakers}: expected 1 to {len(pool)}.")
        return list(pool[:speakers])
    return list(speakers)


def write_text(path: Path, lines: Iterable[str] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_junk(folder: Path, like: str) -> None:
    """Write files of file managers, which are not clips."""
    write_text(folder / ".DS_Store")
    write_text(folder / f"._{like}", ["not a sound"])
