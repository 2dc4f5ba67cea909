"""Fake of eNTERFACE'05."""

from __future__ import annotations

from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, write_film, write_text


def fake_enterface(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """eNTERFACE'05: subject 6 lacks the sentence folders, subject 11's files are called s12."""
    folders = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    emotions = ("angry", "disgust", "fearful", "happy", "sad", "surprised")
    for subject in speaker_names(speakers, ("1", "6", "11", "3", *map(str, range(12, 45)))):
        named = {"11": "s12", "3": "s_3"}.get(subject, f"s{subject}")
        for folder, emotion in zip(folders, emotions, strict=True):
            for number in range(1, per_emotion + 1):
                below = () if subject == "6" else (f"sentence {number}",)
                stem = f"{named}_{folder[:2]}_{number}"
                path = root.joinpath(
                    "enterface database", f"subject {subject}", folder, *below, f"{stem}.avi"
                )
                who = f"enterface/{subject}"
                write_film(path, emotion, speaker=who, seed=number, sample_rate=48_000)
        write_text(root / "enterface database" / f"subject {subject}" / "Thumbs.db")
    return root
