"""Rows of a corpus as plain values, for other processes and for files."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avser.types import Clip


def clip_to_dict(clip: Clip) -> dict[str, Any]:
    """Return plain values of a clip."""
    values = asdict(clip)
    values["path"] = str(clip.path)
    values["video"] = None if clip.video is None else str(clip.video)
    values["attributes"] = dict(clip.attributes)
    return values


def clip_of_dict(values: Mapping[str, Any]) -> Clip:
    """Read what `clip_to_dict` gave."""
    video = values["video"]
    own = {"path": Path(values["path"]), "video": None if video is None else Path(video)}
    return Clip(**{**values, **own})
