"""Fake of a folder of face pictures."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from avser.testing.images import encoded, face_picture


def fake_image_folder(root: Path, *, per_emotion: int = 2) -> Path:
    """Colour pictures of unequal sizes, in ``train|test/EMOTION``, with what does not belong."""
    emotions = {"Happiness": "happy", "sad": "sad", "Anger": "angry"}
    for part, folder, n in product(("train", "test"), emotions, range(per_emotion)):
        path = root / part / folder / f"{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = face_picture(emotions[folder], person=f"{part}{n}", size=40 + 24 * n, colour=True)
        path.write_bytes(encoded(picture, suffix=".jpg"))
    (root / "train" / "sad" / "._0.jpg").write_bytes(b"not a picture")
    (root / "train" / "notes").mkdir()
    (root / "train" / "notes" / "page.jpg").write_bytes(encoded(face_picture("happy")))
    return root
