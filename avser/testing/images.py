"""Small fake corpora of labelled face pictures: the cartoon faces of `avser.testing.media`."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from avser.testing.media import Picture, face_frames

#: Folders of FER2013 and the words that they mean, in the order of Kaggle's numbers.
FOLDERS = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fearful",
    "happy": "happy",
    "sad": "sad",
    "surprise": "surprised",
    "neutral": "neutral",
}
_USAGE = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}


def face_picture(
    emotion: str, *, person: str = "", size: int = 48, colour: bool = False
) -> Picture:
    """Draw one cartoon face, ``[size, size]`` grey or ``[size, size, 3]`` RGB."""
    image = face_frames(emotion, speaker=person, count=1, size=size)[0]
    grey = np.asarray(np.round(image @ [0.299, 0.587, 0.114]), np.uint8)
    return image if colour else grey


def encoded(picture: Picture, *, suffix: str = ".png") -> bytes:
    """The bytes of a picture's file."""
    import cv2

    stored = picture if picture.ndim == 2 else picture[..., ::-1]
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(stored))[1].tobytes())


def _rows(parts: Sequence[str], count: int) -> Iterator[tuple[str, str, int, Picture]]:
    """Part, folder, number and picture; no two are of one person."""
    for part, folder, n in product(parts, FOLDERS, range(count)):
        yield part, folder, n, face_picture(FOLDERS[folder], person=f"{part}{n}")


def fake_fer2013(
    root: Path,
    *,
    per_emotion: int = 2,
    parts: Sequence[str] = ("train", "validation", "test"),
    form: Literal["folders", "tar", "csv"] = "folders",
) -> Path:
    """FER2013 as folders, as ``root/fer2013.tar``, or as Kaggle's ``root/fer2013.csv``."""
    root.mkdir(parents=True, exist_ok=True)
    rows = list(_rows(parts, per_emotion))
    if form == "csv":
        with (root / "fer2013.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("emotion", "pixels", "Usage"))
            for part, folder, _, picture in rows:
                pixels = " ".join(map(str, picture.flatten().tolist()))
                writer.writerow((list(FOLDERS).index(folder), pixels, _USAGE[part]))
    elif form == "tar":
        with tarfile.open(root / "fer2013.tar", "w") as archive:
            for part, folder, n, picture in rows:
                raw = encoded(picture)
                member = tarfile.TarInfo(f"fer2013/{part}/{folder}/{n}.png")
                member.size = len(raw)
                archive.addfile(member, io.BytesIO(raw))
    else:
        for part, folder, n, picture in rows:
            path = root / part / folder / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture))
    return root


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


#: Name of a corpus of pictures to what writes a fake of it.
IMAGE_FAKES: Mapping[str, Callable[..., Path]] = {
    "fer2013": fake_fer2013,
    "image_folder": fake_image_folder,
}
