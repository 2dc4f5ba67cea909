"""Fake of ExpW."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from avser.testing.images import encoded, face_picture

#: Emotions in the order of the owners' numbers.
EMOTIONS = ("angry", "disgust", "fearful", "happy", "sad", "surprised", "neutral")


def fake_expw(root: Path, *, per_emotion: int = 2) -> Path:
    """Pictures of two faces each, and the list of boxes and labels."""
    folder = root / "image" / "origin"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for code, n in product(range(len(EMOTIONS)), range(per_emotion)):
        name, side = f"{EMOTIONS[code]}_face_{n}.jpg", 48
        picture = np.full((70, 140, 3), 128, np.uint8)
        for face, (left, emotion) in enumerate(((10, EMOTIONS[code]), (80, "neutral"))):
            drawn = face_picture(emotion, person=f"{n}{face}", size=side, colour=True)
            picture[12 : 12 + side, left : left + side] = drawn
            label = EMOTIONS.index(emotion)
            box = f"12 {left} {left + side} {12 + side}"  # top, left, right, bottom
            lines.append(f"{name} {face} {box} 45.5 {label}\n")
        (folder / name).write_bytes(encoded(picture, suffix=".png"))
    table = root / "label" / "label.lst"
    table.parent.mkdir()
    table.write_text("".join(lines))
    return root
