"""Jobs of a worker and their results: plain data, sent between processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avser.types import Prediction

Modality = Literal["auto", "audio", "video", "both"]
FaceChoice = Literal["main", "all"]


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Classify a file.

    Attributes:
        path: of the file.
        modality, faces: see `avser.inference.predictor.Predictor.classify`.
        longest_s: a clip that lasts longer is refused, in seconds.
        plot: whether the timeline is drawn too.
    """

    path: Path
    modality: Modality = "auto"
    faces: FaceChoice = "main"
    longest_s: float = float("inf")
    plot: bool = False


@dataclass(frozen=True, kw_only=True)
class Annotate:
    """Annotate a copy of the clip; the result is the bytes of an mp4."""

    path: Path
    prediction: Prediction


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Result of `Classify`; ``plot`` is a PNG, or empty."""

    prediction: Prediction
    plot: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that a worker has loaded.

    Attributes:
        row: its entry in ``GET /v1/models``; see `avser.bundle.listing`.
        card: its model card, Markdown.
        has_video: whether it has a video branch.
    """

    row: Mapping[str, Any]
    card: str = ""
    has_video: bool = False
