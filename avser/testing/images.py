"""Labelled face pictures for fakes and tests: the cartoon faces of `avser.testing.media`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

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


def face_rows(parts: Sequence[str], count: int) -> Iterator[tuple[str, str, int, Picture]]:
    """Part, folder, number and picture; no two are of one person."""
    for part, folder, n in product(parts, FOLDERS, range(count)):
        yield part, folder, n, face_picture(FOLDERS[folder], person=f"{part}{n}")
