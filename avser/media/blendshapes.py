"""Blendshapes: 52 movements of a face from MediaPipe's face landmarker, for each step of a clip.

They stand where OpenFace's action units stand: a table of them is read as precomputed features
(`avser.media.visual_features`), without any binary of OpenFace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError, MediaError
from avser.extras import require
from avser.files import atomic_write
from avser.media.reader import open_media
from avser.media.visual_features import Features
from avser.types import STEP_S

Image = NDArray[np.uint8]

FRAMES_PER_STEP = 4  # one every 128 ms; a step has their mean
_HEIGHT = 480  # pixels of the pictures; the landmarker shrinks a face to 256

_MODEL = "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker"

#: Blendshapes that are an action unit by their definition (both sides are averaged).
ACTION_UNITS: Mapping[str, tuple[str, ...]] = {
    "AU01": ("browInnerUp",),
    "AU02": ("browOuterUpLeft", "browOuterUpRight"),
    "AU04": ("browDownLeft", "browDownRight"),
    "AU05": ("eyeWideLeft", "eyeWideRight"),
    "AU06": ("cheekSquintLeft", "cheekSquintRight"),
    "AU07": ("eyeSquintLeft", "eyeSquintRight"),
    "AU09": ("noseSneerLeft", "noseSneerRight"),
    "AU10": ("mouthUpperUpLeft", "mouthUpperUpRight"),
    "AU12": ("mouthSmileLeft", "mouthSmileRight"),
    "AU14": ("mouthDimpleLeft", "mouthDimpleRight"),
    "AU15": ("mouthFrownLeft", "mouthFrownRight"),
    "AU17": ("mouthShrugLower",),
    "AU20": ("mouthStretchLeft", "mouthStretchRight"),
    "AU26": ("jawOpen",),
    "AU45": ("eyeBlinkLeft", "eyeBlinkRight"),
}


class Landmarker(Protocol):
    """Anything that gives blendshapes of the largest face in a picture."""

    names: Sequence[str]

    def __call__(self, image: Image) -> NDArray[np.float32] | None:
        """Blendshapes ``[F]`` from 0 to 1 of an RGB picture ``[H, W, 3]``; None without a face."""


class MediaPipeLandmarker:
    """MediaPipe's face landmarker (Apache-2.0).

    Args:
        model: the file ``face_landmarker.task``.

    Attributes:
        names: of the blendshapes.

    Raises:
        ConfigError: the file or the extra ``landmarks`` is missing.
    """

    def __init__(self, model: str | Path) -> None:
        require("landmarks", "mediapipe")
        if not Path(model).is_file():
            raise ConfigError(
                f"Bad landmarker '{model}': there is no such file; get face_landmarker.task from "
                f"{_MODEL}."
            )
        from mediapipe.tasks.python import BaseOptions, vision
        from mediapipe.tasks.python.vision.face_landmarker import Blendshapes

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)), output_face_blendshapes=True
        )
        try:
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"Bad landmarker '{model}': MediaPipe can't read it; get face_landmarker.task from "
                f"{_MODEL}."
            ) from error
        self.names: Sequence[str] = tuple(_camel(shape.name) for shape in Blendshapes)

    def __call__(self, image: Image) -> NDArray[np.float32] | None:
        """See `Landmarker.__call__`."""
        import mediapipe

        data = np.ascontiguousarray(image)
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=data)
        faces = self._landmarker.detect(picture).face_blendshapes
        return np.array([shape.score for shape in faces[0]], np.float32) if faces else None

    def close(self) -> None:
        """Release the landmarker."""
        self._landmarker.close()


def _camel(name: str) -> str:
    """``BROW_DOWN_LEFT`` as ``browDownLeft``, which is how blendshapes are named elsewhere.

    >>> _camel("BROW_DOWN_LEFT"), _camel("NEUTRAL")
    ('browDownLeft', '_neutral')
    """
    first, *rest = name.lower().split("_")
    return (
        "_neutral" if name.endswith("NEUTRAL") else first + "".join(part.title() for part in rest)
    )


def blendshapes_of(path: str | Path, landmarker: Landmarker) -> Features:
    """Blendshapes of the steps of a video in which a face is seen; times are the steps' middles.

    Raises:
        MediaError: the file can't be read, or has no picture.
    """
    rows: dict[int, list[NDArray[np.float32]]] = {}
    every = STEP_S / FRAMES_PER_STEP
    with open_media(path, audio=False, frame_times=every, frame_height=_HEIGHT) as reader:
        if not reader.has_video:
            raise MediaError(f"Bad clip {path}: it has no picture; leave it out.")
        last: Image | None = None
        values: NDArray[np.float32] | None = None
        for block in reader:
            for frame in block.frames:
                if frame.image is not last:  # a held picture is looked at once
                    last, values = frame.image, landmarker(frame.image)
                if values is not None:
                    rows.setdefault(int((frame.time_s + 1e-6) / STEP_S), []).append(values)
    steps = sorted(rows)
    none = np.zeros((0, len(landmarker.names)), np.float32)
    means = [np.mean(rows[step], axis=0)[None] for step in steps]
    return Features(np.concatenate([none, *means]), (np.array(steps) + 0.5) * STEP_S)


@dataclass(frozen=True)
class FeatureTable:
    """Features of many clips over time, in one file.

    Attributes:
        names: ``[F]`` of the values.
        rows: features by clip.
    """

    names: tuple[str, ...]
    rows: Mapping[str, Features]

    def save(self, path: str | Path) -> None:
        """Write a ``.npz``: arrays ``names``, ``keys``, ``ends``, ``values`` and ``times_s``."""
        kept = list(self.rows.values())
        width = np.zeros((0, len(self.names)), np.float32)
        times = [np.zeros(0), *(row.times_s for row in kept if row.times_s is not None)]
        with atomic_write(path, mode="wb") as file:
            np.savez_compressed(
                file,
                names=np.array(self.names),
                keys=np.array(list(self.rows), dtype=np.str_),
                ends=np.cumsum([len(row.values) for row in kept], dtype=np.int64),
                values=np.concatenate([width, *(row.values for row in kept)]),
                times_s=np.concatenate(times),
            )


def action_units(table: FeatureTable) -> FeatureTable:
    """The action units of a table of blendshapes, as OpenFace names their intensities.

    They run from 0 to 1, and OpenFace's from 0 to 5: a model of one is not a model of the other.
    """
    place = {name: index for index, name in enumerate(table.names)}
    units = {u: [place[n] for n in names] for u, names in ACTION_UNITS.items()}

    def of(row: Features) -> Features:
        columns = [row.values[:, which].mean(axis=1) for which in units.values()]
        return Features(np.stack(columns, axis=1), row.times_s)

    rows = {key: of(row) for key, row in table.rows.items()}
    return FeatureTable(tuple(f"{unit}_r" for unit in units), rows)
