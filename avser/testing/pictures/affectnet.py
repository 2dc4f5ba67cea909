"""Fake of AffectNet."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np

from avser.testing.images import encoded, face_picture

#: Emotions in the order of the owners' numbers; three more numbers are no emotion.
EMOTIONS = (
    "neutral", "happy", "sad", "surprised", "fearful", "disgust", "angry", "contempt",
)  # fmt: skip
_HEADER = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
    "expression", "valence", "arousal",
)  # fmt: skip


def fake_affectnet(root: Path, *, per_emotion: int = 2) -> Path:
    """Pictures with a face in a grey field, tables of boxes and labels, and rows without a face."""
    folder = root / "Manually_Annotated_Images"
    for part in ("training", "validation"):
        rows: list[tuple[object, ...]] = []
        for number, (code, n) in enumerate(product(range(11), range(per_emotion))):
            name = f"{number % 3}/{part[:2]}{number:04x}.jpg"
            x, y, side = 20, 10, 64
            if code < len(EMOTIONS):
                face = face_picture(EMOTIONS[code], person=f"{part}{n}", size=side, colour=True)
                picture = np.full((100, 120, 3), 128, np.uint8)
                picture[y : y + side, x : x + side] = face
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(picture, suffix=".png"))
            rows.append((name, x, y, side, side, "30;40;50", code, 0.1, 0.2))
        with (root / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_HEADER, *rows])
    return root
