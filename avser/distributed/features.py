"""Visual features of clips: the worker of every engine, and its rows."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from avser.errors import MediaError
from avser.media import blendshapes
from avser.media.visual_features import Features
from avser.stores import is_url, local_copy

WORKER = f"{__name__}:FeatureWorker"


class FeatureWorker:
    """Computes blendshapes of clips.

    Args:
        settings: ``landmarker``, the path of MediaPipe's model, and ``directory`` that relative
            paths begin at.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        with suppress(OSError):  # on another machine: absolute paths and addresses are the same
            os.chdir(settings["directory"])
        self._landmarker = blendshapes.MediaPipeLandmarker(settings["landmarker"])

    def __call__(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row for each of the ``paths``, with the item's ``places``.

        Raises:
            StorageError: a store can't be reached, or refuses the credential.
        """
        return {"places": item["places"], "rows": [self._row(path) for path in item["paths"]]}

    def _row(self, path: str) -> dict[str, Any]:
        try:
            with local_copy(path) as file:
                features = blendshapes.blendshapes_of(file, self._landmarker)
        except MediaError as error:
            return {"path": path, "error": {"type": "MediaError", "message": str(error)}}
        return {"path": path, **_to_row(features)}


def _to_row(features: Features) -> dict[str, Any]:
    times = np.zeros(0) if features.times_s is None else features.times_s
    values = np.ascontiguousarray(features.values, np.float32)
    return {"values": b64encode(values.tobytes()).decode(), "times_s": times.tolist()}


def features_of_row(row: Mapping[str, Any], *, width: int) -> Features:
    """Read the features ``[T, F]`` of a row that a `FeatureWorker` returned."""
    values = np.frombuffer(b64decode(row["values"]), np.float32)
    return Features(values.reshape(-1, width), np.array(row["times_s"]))


def key_of(path: str) -> str:
    """Name of a clip's row in a table: of its file, without folder and suffix.

    >>> key_of("a/b.mp4"), key_of("https://host/c.mp4?token=1/2")
    ('b', 'c')
    """
    return Path(path.partition("?")[0] if is_url(path) else path).stem
