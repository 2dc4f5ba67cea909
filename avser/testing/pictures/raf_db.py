"""Fake of RAF-DB."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.images import encoded, face_picture

#: Emotions in the order of the owners' numbers, which begin with 1.
EMOTIONS = ("surprised", "fearful", "disgust", "happy", "sad", "angry", "neutral")


def fake_raf_db(root: Path, *, per_emotion: int = 2) -> Path:
    """The basic set: aligned pictures, and the list of their labels."""
    aligned = root / "basic" / "Image" / "aligned"
    aligned.mkdir(parents=True, exist_ok=True)
    lines = []
    for part in ("train", "test"):
        for number, (emotion, n) in enumerate(product(EMOTIONS, range(per_emotion)), start=1):
            name = f"{part}_{number:05d}"
            picture = face_picture(emotion, person=f"{part}{n}", size=100, colour=True)
            (aligned / f"{name}_aligned.jpg").write_bytes(encoded(picture, suffix=".jpg"))
            lines.append(f"{name}.jpg {EMOTIONS.index(emotion) + 1}\n")
    table = root / "basic" / "EmoLabel" / "list_patition_label.txt"  # as the owners spell it
    table.parent.mkdir()
    table.write_text("".join(lines))
    return root
