"""Fake of MELD."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.corpora._takes import Speakers, speaker_names, write_csv, write_film

_HEAD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime"
).split(",")


def fake_meld(root: Path, *, speakers: Speakers = 4, per_emotion: int = 2) -> Path:
    """Write MELD: ``train_splits/dia0_utt0.mp4`` and three tables; one row has no video."""
    codes = {
        "anger": "angry",
        "disgust": "disgust",
        "fear": "fearful",
        "joy": "happy",
        "neutral": "neutral",
        "sadness": "sad",
        "surprise": "surprised",
    }
    parts = {"train": "train_splits", "dev": "dev_splits_complete"}
    parts["test"] = "output_repeated_splits_test"
    names = speaker_names(speakers, ("Monica", "Joey", "Rachel", "Ross", "Phoebe", "Chandler"))
    tables: dict[str, list[list[object]]] = {part: [] for part in parts}
    for speaker, (code, emotion) in product(names, codes.items()):
        for number in range(per_emotion):
            part = list(parts)[number % 3]
            rows = tables[part]
            dialogue, utterance = len(rows) // 5, len(rows) % 5
            about = [len(rows) + 1, f"Well, {number}.", speaker, code, "neutral"]
            rows.append([*about, dialogue, utterance, 1, 1, "00:00:01,000", "00:00:02,000"])
            path = root / parts[part] / f"dia{dialogue}_utt{utterance}.mp4"
            who = f"meld/{speaker}"
            write_film(path, emotion, speaker=who, seed=number, sample_rate=48_000)
    tables["train"].append([0, "Lost.", names[0], "joy", "positive", 999, 0, 1, 1, "", ""])
    for part, rows in tables.items():
        write_csv(root / f"{part}_sent_emo.csv", [_HEAD, *rows])
    return root
