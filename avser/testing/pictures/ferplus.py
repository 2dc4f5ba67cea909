"""Fake of FER+."""

from __future__ import annotations

import csv
from pathlib import Path

from avser.testing.pictures.fer2013 import fake_fer2013

#: Columns of votes, in the owners' order.
VOTES = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
    "unknown", "NF",
)  # fmt: skip
_COLUMN = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


def fake_ferplus(root: Path, *, per_emotion: int = 2) -> Path:
    """Kaggle's table of pictures, and ten votes for each: seven for its emotion, three others.

    The last picture shows no face, the one before is unknown to most, and one is contempt.
    """
    fake_fer2013(root, per_emotion=per_emotion, form="csv")
    with (root / "fer2013.csv").open(newline="", encoding="utf-8") as file:
        pictures = list(csv.DictReader(file))
    rows: list[list[object]] = [["Usage", "Image name", *VOTES]]
    for index, picture in enumerate(pictures):
        votes = dict.fromkeys(VOTES, 0)
        votes[_COLUMN[int(picture["emotion"])]] += 7
        votes["neutral"] += 2
        votes["unknown"] += 1
        if index == 0:
            votes = {**dict.fromkeys(VOTES, 0), "contempt": 10}
        if index >= len(pictures) - 2:
            last = "NF" if index == len(pictures) - 1 else "unknown"
            votes = {**dict.fromkeys(VOTES, 0), last: 10}
        name = "" if votes["NF"] else f"fer{index:07d}.png"
        rows.append([picture["Usage"], name, *votes.values()])
    with (root / "fer2013new.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return root
