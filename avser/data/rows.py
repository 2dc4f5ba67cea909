"""Conversion of clips to and from plain values, for other processes and for files."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from avser.stores import as_path
from avser.types import Clip


def clip_to_dict(clip: Clip) -> dict[str, Any]:
    """Return a clip as plain values."""
    values = asdict(clip)
    values["path"] = str(clip.path)
    values["video"] = None if clip.video is None else str(clip.video)
    values["attributes"] = dict(clip.attributes)
    return values


def clip_from_dict(values: Mapping[str, Any]) -> Clip:
    """Return the clip of the values of `clip_to_dict`."""
    video = values["video"]
    own = {"path": as_path(values["path"]), "video": None if video is None else as_path(video)}
    return Clip(**{**values, **own})
