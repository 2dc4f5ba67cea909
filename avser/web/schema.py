"""Response schemas of the HTTP interface, for its OpenAPI document.

They describe what `Prediction.to_dict` and `avser.bundle.listing.listed` give; a test holds them
together.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from avser.inference.spans import JOIN_S
from avser.types import FaceBox, FaceResult, Prediction, TimelineEntry

_MOST_S = 1e6  # eleven days

Seconds = Annotated[float, Field(ge=0, le=_MOST_S, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, le=4, allow_inf_nan=False)]  # a face may reach out of a picture
Place = Annotated[float, Field(ge=-4, le=4, allow_inf_nan=False)]


class _Exact(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StepSchema(_Exact):
    """Prediction of one step of 0.512 s; null where there is no signal."""

    start_s: Seconds
    end_s: Seconds
    label: str | None
    probabilities: dict[str, Probability] | None

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        if self.end_s < self.start_s:
            raise ValueError(f"it ends at {self.end_s:g} s, before its start")
        return self


class BoxSchema(_Exact):
    """Box of a face in one sampled frame: shares of the picture's width and height."""

    time_s: Seconds
    x: Place
    y: Place
    w: Size
    h: Size
    score: Annotated[float, Field(allow_inf_nan=False)]


class FaceSchema(_Exact):
    """Prediction from one person's face alone."""

    face_id: Annotated[int, Field(ge=0)]
    speaks: bool | None = Field(description="whether the lips move with the sound; null: unknown")
    label: str | None
    probabilities: dict[str, Probability] | None
    timeline: list[StepSchema]
    boxes: list[BoxSchema]


class ClipSchema(_Exact):
    """Prediction of one clip, as ``avser classify --json`` writes it."""

    path: str | None = Field(description="name of the file")
    label: str | None = Field(description="most probable emotion; null where there is no signal")
    probabilities: dict[str, Probability] | None
    modalities: list[Literal["audio", "video"]] = Field(description="streams that were used")
    reason: str | None = Field(description="why a stream was not used, or no_signal")
    duration_s: Seconds
    timeline: list[StepSchema]
    model: str
    faces: list[FaceSchema] = Field(default=[], description="only with faces=all")


class PredictionSchema(ClipSchema):
    """A prediction as the page sends it back, to be written in another format."""

    boxes: list[BoxSchema] = Field(default=[], description="of the main person's face")

    @model_validator(mode="after")
    def _follow_each_other(self) -> Self:
        for timeline in (self.timeline, *(face.timeline for face in self.faces)):
            for before, step in pairwise(timeline):
                if step.start_s < before.end_s - JOIN_S:
                    raise ValueError(
                        f"the step at {step.start_s:g} s begins before the end of the one before"
                    )
        return self

    def prediction(self) -> Prediction:
        """Return the prediction that this describes."""
        return Prediction(
            label=self.label,
            probabilities=self.probabilities,
            modalities=tuple(self.modalities),
            reason=self.reason,
            duration_s=self.duration_s,
            timeline=_entries(self.timeline),
            model=self.model,
            path=self.path,
            boxes=_boxes(self.boxes),
            faces=tuple(
                FaceResult(
                    face_id=f.face_id,
                    label=f.label,
                    probabilities=f.probabilities,
                    timeline=_entries(f.timeline),
                    boxes=_boxes(f.boxes),
                )
                for f in self.faces
            )
            or None,
        )


def _entries(steps: list[StepSchema]) -> tuple[TimelineEntry, ...]:
    return tuple(TimelineEntry(**step.model_dump()) for step in steps)


def _boxes(boxes: list[BoxSchema]) -> tuple[FaceBox, ...]:
    return tuple(FaceBox(**box.model_dump()) for box in boxes)


class Error(_Exact):
    """An error, in one sentence."""

    type: str
    message: str
    position: int | None = Field(default=None, description="only with 429: place in the queue")


class Refusal(_Exact):
    """Response of a refused request."""

    path: str | None
    error: Error


class ModelRow(_Exact):
    """A loaded model."""

    name: str
    emotions: list[str]
    modalities: list[Literal["audio", "video"]]
    parameters: int
    uar: dict[str, Any] | None = Field(description="unweighted average recall, 95 % interval")
    split: str | None
    licence: str


class Models(_Exact):
    """All loaded models."""

    models: list[ModelRow]


class Health(_Exact):
    """Whether clips can be classified."""

    status: Literal["ok", "no worker"]
    version: str
    workers: int
