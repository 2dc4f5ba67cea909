"""Fake of RAVDESS."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import numpy as np

from avser.testing.corpora._takes import (
    Speakers,
    speaker_names,
    take,
    write_csv,
    write_film,
    write_junk,
)
from avser.testing.media import write_wav

#: Columns of OpenFace 2: 17 intensities, and presences of the same and of lip suck.
_UNITS = "01 02 04 05 06 07 09 10 12 14 15 17 20 23 25 26 45".split()

ACTION_UNITS = [f"AU{u}_r" for u in _UNITS] + [f"AU{u}_c" for u in sorted([*_UNITS, "28"])]


def fake_ravdess(
    root: Path, *, speakers: Speakers = 4, per_emotion: int = 2, video: bool = False
) -> Path:
    """RAVDESS: one stereo file, one song, a doubled recording of actor 07, a table of action units.

    The table ``<root>_openface_aus.csv`` has a row a take. With ``video``, AV files stand in the
    folders of the owners' video archives (one as video-only file too).
    """
    codes = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    table: list[list[object]] = [[*ACTION_UNITS, "name"]]
    actors = speaker_names(speakers, [f"{n:02d}" for n in range(1, 25)])
    for actor in actors:
        folder = root / f"Actor_{actor}"
        films = root / f"Video_Speech_Actor_{actor}" / f"Actor_{actor}"
        for code, emotion in enumerate(codes, start=1):
            takes = list(product(("01", "02"), ("01", "02"), ("01", "02")))  # strength, rep., text
            for strength, repetition, text in takes[: min(per_emotion, 4 if code == 1 else 8)]:
                tail = f"01-{code:02d}-{strength}-{text}-{repetition}-{actor}"
                seed = int(strength + repetition + text)
                who = f"ravdess/{actor}"
                sound = take(emotion, speaker=who, seed=seed, sample_rate=48_000)
                stereo = actor == "01" and (code, seed) == (2, 10101)
                shaped = np.stack([sound, sound]) if stereo else sound
                write_wav(folder / f"03-{tail}.wav", shaped, sample_rate=48_000)
                shares = [code / 8, seed / 20_202, *[0.5] * (len(ACTION_UNITS) - 2)]
                table.append([*(f"{share:.3f}" for share in shares), f"01-{tail}"])
                if video:
                    film = films / f"01-{tail}.mp4"
                    write_film(film, emotion, speaker=who, seed=seed, sample_rate=48_000)
                    if len(table) == 2:
                        film = films / f"02-{tail}.mp4"
                        write_film(
                            film, emotion, speaker=who, seed=seed, sample_rate=48_000, sound=False
                        )
        write_junk(folder, "03-01-01-01-01-01-01.wav")
    song = take("sad", speaker=f"ravdess/{actors[0]}", seed=9, sample_rate=48_000)
    path = root / f"Actor_{actors[0]}" / f"03-02-04-01-01-01-{actors[0]}.wav"
    write_wav(path, song, sample_rate=48_000)
    doubled = root / "Actor_07" / "03-01-03-01-02-02-07.wav"
    if doubled.exists():
        shutil.copyfile(doubled.with_name("03-01-03-01-02-01-07.wav"), doubled)
    write_csv(root.with_name(f"{root.name}_openface_aus.csv"), table)
    return root
