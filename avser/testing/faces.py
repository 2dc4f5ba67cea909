"""Videos of people made from one real face: no detector takes a drawn one for a face.

The face is given by the caller (the repository has one in ``examples/face.jpg``). A second person
is the same face mirrored, in another light and with a beard; a scene is a quiet background with
people pasted on it. All of it is deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from avser.media.decoders import Frame
from avser.testing.media import Picture

_HEAD = (0.30, 0.02, 0.72, 0.68)  # left, top, right, bottom of the head in examples/face.jpg
_BEARD = (0.50, 0.97)  # top and bottom in a head, as shares of its height
_GREY = 96  # of backgrounds


def read_picture(path: Path) -> Picture:
    """Read a picture file as RGB ``[H, W, 3]``."""
    with av.open(str(path)) as file:
        return np.asarray(next(file.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)


def head(
    picture: Picture,
    *,
    height: int,
    squeeze: float = 1.0,
    mirrored: bool = False,
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
    beard: bool = False,
) -> Picture:
    """Cut the head out of ``examples/face.jpg``, ``[height, w, 3]``, and change who it is.

    Args:
        picture: the face.
        height: of the head in pixels.
        squeeze: factor of the width; a narrow face stands in for one that is turned away.
        mirrored: whether left and right change places.
        tint: factors of red, green and blue.
        beard: whether the lower face is darkened.
    """
    import cv2

    rows, columns = picture.shape[:2]
    left, top, right, bottom = _HEAD
    cut = picture[int(top * rows) : int(bottom * rows), int(left * columns) : int(right * columns)]
    width = max(1, round(height * squeeze * cut.shape[1] / cut.shape[0]))
    small = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA).astype(np.float64)
    if mirrored:
        small = small[:, ::-1]
    small = small * np.array(tint)
    if beard:
        y = (np.arange(height) + 0.5)[:, None] / height
        x = (np.arange(width) + 0.5)[None, :] / width
        mouth = ((x - 0.5) / 0.13) ** 2 + ((y - 0.735) / 0.04) ** 2 < 1
        chin = ((x - 0.5) / 0.3) ** 2 + ((y - 0.74) / 0.22) ** 2 < 1
        small[chin & ~mouth & (y > 0.66)] *= 0.3
    changed: Picture = np.clip(small, 0, 255).astype(np.uint8)
    return changed


def speaking(face: Picture, openings: Sequence[float]) -> list[Picture]:
    """Heads of one person with the mouth open by so much, 0 to 1, one a frame.

    Args:
        face: ``[h, w, 3]``, from `head`.
        openings: of the mouth; 0 leaves the head as it is.
    """
    height, width = face.shape[:2]
    y = (np.arange(height) + 0.5)[:, None] / height - 0.735
    x = (np.arange(width) + 0.5)[None, :] / width - 0.5
    heads = []
    for opening in openings:
        changed = face.copy()
        if opening > 0:
            inside = (x / 0.09) ** 2 + (y / (0.05 * opening)) ** 2 < 1
            changed[inside] = changed[inside] // 3
        heads.append(changed)
    return heads


@dataclass(frozen=True)
class Person:
    """A head on its way through a scene.

    Attributes:
        head: ``[h, w, 3]``, or one such picture a frame.
        path: centre (x, y) as shares of the picture, one a frame; None where out of sight.
    """

    head: Picture | Sequence[Picture]
    path: Sequence[tuple[float, float] | None]

    def head_at(self, index: int) -> Picture:
        """The head in a frame."""
        return self.head if isinstance(self.head, np.ndarray) else self.head[index]


def scene(people: Sequence[Person], *, index: int, size: tuple[int, int] = (180, 320)) -> Picture:
    """One picture ``[H, W, 3]``; later people stand before earlier ones.

    Args:
        people: who is in it.
        index: number of the frame.
        size: (H, W) in pixels.
    """
    noise = np.random.default_rng(index).integers(-3, 4, (*size, 1))
    picture = np.broadcast_to(_GREY + noise, (*size, 3)).astype(np.uint8)
    for person in people:
        place = person.path[index]
        if place is not None:
            _paste(picture, person.head_at(index), place)
    return picture


def _paste(picture: Picture, face: Picture, place: tuple[float, float]) -> None:
    """Draw an oval head, cut at the picture's edges."""
    height, width = face.shape[:2]
    top = round(place[1] * picture.shape[0] - height / 2)
    left = round(place[0] * picture.shape[1] - width / 2)
    y = (np.arange(height) + 0.5)[:, None] / height * 2 - 1
    x = (np.arange(width) + 0.5)[None, :] / width * 2 - 1
    oval = x**2 + y**2 < 1
    rows = slice(max(0, -top), max(0, min(height, picture.shape[0] - top)))
    columns = slice(max(0, -left), max(0, min(width, picture.shape[1] - left)))
    into = picture[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop]
    into[oval[rows, columns]] = face[rows, columns][oval[rows, columns]]


def frames(
    people: Sequence[Person], *, times_s: Iterator[float], count: int, size: tuple[int, int]
) -> Iterator[Frame]:
    """Sampled frames of a scene, as `avser.media.reader` gives them, without a file."""
    for index in range(count):
        yield Frame(next(times_s), scene(people, index=index, size=size))


def darker(picture: NDArray[np.uint8], *, gamma: float) -> Picture:
    """The picture as in poor light: values 0..1 to the power of ``gamma``."""
    changed: Picture = np.round(255 * (picture / 255.0) ** gamma).astype(np.uint8)
    return changed


def write_turned(path: Path, pictures: Picture, *, rotation: int, fps: int = 10) -> Path:
    """Write mp4 of upright pictures ``[N, H, W, 3]`` as a phone held sideways does.

    The stored pictures lie on their side; the file says by how much to turn them.

    Args:
        path: of the file.
        pictures: upright.
        rotation: 0, 90, 180 or 270 degrees counter-clockwise from stored to upright.
        fps: pictures a second.
    """
    stored = np.ascontiguousarray(np.rot90(pictures, -rotation // 90, axes=(1, 2)))
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(fps), options={"preset": "ultrafast"})
        stream.height, stream.width = stored.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(rotation)
        for image in stored:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    return path
