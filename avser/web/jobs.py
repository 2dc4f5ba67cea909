"""Jobs of a worker and their results: plain data, sent between processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avser.inference.live_window import LiveStep, LiveWindow
from avser.types import Prediction

Modality = Literal["auto", "audio", "video", "both"]
FaceChoice = Literal["main", "all"]
Stage = Literal["decode", "faces", "model"]

#: What `Render` can write: timelines, figures, and the annotated clip.
RENDER_FORMATS: Mapping[str, str] = {
    "csv": "text/csv",
    "json": "application/json",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "TextGrid": "text/plain",
    "eaf": "application/xml",
    "labelstudio.json": "application/json",
    "pdf": "application/pdf",
    "svg": "image/svg+xml",
    "png": "image/png",
    "mp4": "video/mp4",
}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """State of a job.

    Attributes:
        stage: what is done now.
        share: of the clip that the stage has processed, 0 to 1; None where its length is unknown.
        read_s: seconds of the clip that the stage has processed.
    """

    stage: Stage
    share: float | None
    read_s: float = 0.0


Report = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Classify a file.

    Attributes:
        path: of the file.
        modality, faces: see `avser.inference.predictor.Predictor.classify`.
        longest_s: a clip that lasts longer is refused, in seconds.
        model: name of the loaded model to use; None chooses by the clip.
        details: whether the audio branch's own prediction, each face's and the waveform are
            returned too.
    """

    path: Path
    modality: Modality = "auto"
    faces: FaceChoice = "main"
    longest_s: float = float("inf")
    model: str | None = None
    details: bool = False


@dataclass(frozen=True, kw_only=True)
class Render:
    """Write a prediction in a format of `RENDER_FORMATS`; the result is the file's bytes.

    Attributes:
        prediction: of the clip.
        format: to write.
        path: the clip, which an annotated copy (mp4) is made of; None where there is none.
        folder: for temporary files.
    """

    prediction: Prediction
    format: str
    path: Path | None
    folder: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassifyLive:
    """Classify the last step of a live recording.

    Attributes:
        window: of the recording.
        folder: for temporary files.
    """

    window: LiveWindow
    folder: Path


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Result of `Classify`.

    Attributes:
        prediction: of the clip.
        voice: prediction by the audio branch alone, where that and a face were used.
        peaks: highest absolute sample in equal parts of the clip, 0 to 1.
        has_video: whether the file has a picture.
    """

    prediction: Prediction
    voice: Prediction | None = None
    peaks: tuple[float, ...] = ()
    has_video: bool = False


Job = Classify | Render | ClassifyLive
Reply = JobResult | LiveStep | bytes


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
