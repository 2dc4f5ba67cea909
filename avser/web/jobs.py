"""What is asked of a worker, and what it answers. Plain data, sent between processes."""

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
    """Draw what was found into a copy of the clip; the answer is the bytes of an mp4."""

    path: Path
    prediction: Prediction


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Answer to `Classify`; ``plot`` is a PNG, or empty."""

    prediction: Prediction
    plot: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that a worker has loaded.

    Attributes:
        row: what ``GET /v1/models`` says of it; see `avser.bundle.listing`.
        card: its model card, Markdown.
        sees: whether it has a face half that looks at pictures.
    """

    row: Mapping[str, Any]
    card: str = ""
    sees: bool = False
