"""Shapes of the interface's answers, for its OpenAPI document.

They describe what `Prediction.to_dict` and `avser.bundle.listing.listed` give; a test holds them
together.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Exact(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StepSchema(_Exact):
    """What was heard or seen in one step of 0.512 s; null where there was nothing to judge."""

    start_s: float
    end_s: float
    label: str | None
    probabilities: dict[str, float] | None


class BoxSchema(_Exact):
    """Where a face was in one sampled frame: shares of the picture's width and height."""

    time_s: float
    x: float
    y: float
    w: float
    h: float
    score: float


class FaceSchema(_Exact):
    """What one person's face says, without the sound."""

    face_id: int
    label: str | None
    probabilities: dict[str, float] | None
    timeline: list[StepSchema]
    boxes: list[BoxSchema]


class ClipSchema(_Exact):
    """The answer for one clip: what ``avser classify --json`` gives for it."""

    path: str | None = Field(description="name of the file")
    label: str | None = Field(description="most probable emotion; null where there is no signal")
    probabilities: dict[str, float] | None
    modalities: list[Literal["audio", "video"]] = Field(description="streams that were used")
    reason: str | None = Field(description="why a stream was not used, or no_signal")
    duration_s: float
    timeline: list[StepSchema]
    model: str
    faces: list[FaceSchema] = Field(default=[], description="only with faces=all")


class Error(_Exact):
    """What went wrong, in one sentence."""

    type: str
    message: str


class Refusal(_Exact):
    """Why there is no answer."""

    path: str | None
    error: Error


class ModelRow(_Exact):
    """A model that the server answers with."""

    name: str
    emotions: list[str]
    modalities: list[Literal["audio", "video"]]
    parameters: int
    uar: dict[str, Any] | None = Field(description="unweighted average recall, 95 % interval")
    split: str | None
    licence: str


class Models(_Exact):
    """All models that the server answers with."""

    models: list[ModelRow]


class Health(_Exact):
    """Whether the server can answer."""

    status: Literal["ok", "no worker"]
    version: str
    workers: int
