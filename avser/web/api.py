"""The HTTP interface: classification, other formats, models, health, OpenAPI."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from avser import __version__
from avser.errors import AvserError, ConfigError, unknown
from avser.web.events import EVENTS, EventResponse, classify_events
from avser.web.jobs import RENDER_FORMATS, Classify, FaceChoice, Modality, Render
from avser.web.request_limiter import RequestLimiter, refusal
from avser.web.schema import ClipSchema, Health, Models, PredictionSchema, Refusal
from avser.web.service import Service, plain_name

_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Refusal, "description": "the bearer token is missing or wrong"},
    413: {"model": Refusal, "description": "the upload is too large"},
    422: {"model": Refusal, "description": "the clip is unreadable, too long, or lacks a stream"},
    429: {"model": Refusal, "description": "the queue is full"},
    500: {"model": Refusal, "description": "the clip made a worker fail"},
    504: {"model": Refusal, "description": "there was no result in time"},
}


def create_api(service: Service, *, token: str | None = None) -> FastAPI:
    """Return the application without the page.

    Args:
        service: that classifies; its workers are ended with the application.
        token: bearer token that ``/v1/`` asks for, or None.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # the usual pages of the interface load scripts from another host, so there are none
    app = FastAPI(
        title="avser",
        version=__version__,
        summary="Emotion in clips of people speaking, from the voice, the face, or both",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(RequestLimiter, service=service, token=token)
    _handle_errors(app)
    _add_classify(app, service)
    _add_render(app, service)
    _add_states(app, service)
    return app


def _add_classify(app: FastAPI, service: Service) -> None:
    @app.post("/v1/classify", responses={200: {"model": ClipSchema}, **_REFUSALS})
    async def classify(
        request: Request,
        file: Annotated[UploadFile, File(description="the clip, any usual sound or video")],
        modality: Annotated[Modality, Form(description="streams to use")] = "auto",
        faces: Annotated[FaceChoice, Form(description="all: each face alone too")] = "main",
        model: Annotated[str | None, Form(description="a loaded model; by the clip")] = None,
    ) -> Response:
        """Classify one clip; the upload is deleted before the response is sent.

        With ``Accept: application/x-ndjson``, lines report the progress, and the last one has
        ``result``, with boxes, waveform and each branch's own prediction, or ``error``.
        """
        name, wants = plain_name(file.filename), request.headers.get("accept", "")
        stack = ExitStack()
        try:
            path = await _save(file, stack.enter_context(service.private()) / "clip")
            job = Classify(
                path=path,
                modality=modality,
                faces=faces,
                longest_s=service.limits.duration_s,
                model=model,
                details=EVENTS in wants,
            )
            deadline = request.state.deadline
            if job.details:
                events = classify_events(service, job, name=name, deadline=deadline)
                return EventResponse(events, stack.pop_all())
            result = await service.classify(job, name=name, deadline=deadline)
        except AvserError as error:
            return refusal(error, path=name)
        finally:
            stack.close()
        return JSONResponse(result.prediction.to_dict())


async def _save(file: UploadFile, path: Path) -> Path:
    with path.open("wb") as kept:
        await run_in_threadpool(shutil.copyfileobj, file.file, kept)
    return path


def _add_render(app: FastAPI, service: Service) -> None:
    @app.post("/v1/render", responses={200: {"content": {"*/*": {}}}, **_REFUSALS})
    async def render(
        request: Request,
        format: Annotated[str, Form(description=f"one of {', '.join(RENDER_FORMATS)}")],
        prediction: Annotated[UploadFile, File(description="JSON of /v1/classify")],
        file: Annotated[UploadFile | None, File(description="the clip; mp4 needs it")] = None,
    ) -> Response:
        """Write a prediction in another format, or draw it on its clip."""
        name = None
        try:
            if format not in RENDER_FORMATS:
                raise ConfigError(unknown("format", format, RENDER_FORMATS))
            try:
                sent = PredictionSchema.model_validate_json(await prediction.read())
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise RequestError(
                    f"Bad prediction: {where}{': ' if where else ''}{first['msg']}; send what "
                    "/v1/classify gave."
                ) from error
            name = sent.path = plain_name(sent.path)
            with service.private() as folder:
                path = None if file is None else await _save(file, folder / "clip")
                job = Render(prediction=sent.prediction(), format=format, path=path, folder=folder)
                content = await service.render(job, deadline=request.state.deadline)
        except AvserError as error:
            return refusal(error, path=name)
        return Response(content, media_type=RENDER_FORMATS[format])


def _add_states(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=Models, responses={401: _REFUSALS[401]})
    async def models() -> dict[str, Any]:
        """List the loaded models."""
        return {"models": [model.row for model in service.workers.models]}

    @app.get("/v1/models/{name}/card", responses={401: _REFUSALS[401], 404: {"model": Refusal}})
    async def card(name: str) -> Response:
        """Return a loaded model's card, Markdown."""
        cards = {model.row["name"]: model.card for model in service.workers.models}
        if name not in cards:
            return refusal(ConfigError(unknown("model", name, cards)), status=404)
        return Response(cards[name], media_type="text/markdown; charset=utf-8")

    @app.get("/healthz", response_model=Health, responses={503: {"model": Health}})
    async def healthz() -> JSONResponse:
        """Report whether clips can be classified; needs no token."""
        alive = service.workers.alive
        content = Health(status="ok" if alive else "no worker", version=__version__, workers=alive)
        return JSONResponse(content.model_dump(), 200 if alive else 503)


def _handle_errors(app: FastAPI) -> None:
    """Give every error the same shape, with one sentence."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return refusal(RequestError(_sentence(error.errors())))

    @app.exception_handler(HTTPException)
    async def other(_request: Request, error: HTTPException) -> JSONResponse:
        wrong = RequestError(f"Bad request: {error.detail}.")
        return refusal(wrong, status=error.status_code)


class RequestError(AvserError):
    """A request is not as the OpenAPI document says."""


def _sentence(errors: Sequence[Any]) -> str:
    first = errors[0]
    field, value = first["loc"][-1], first.get("input")
    if first["type"] == "missing" and field != "file":
        return f"Bad request: it lacks the multipart field {str(field)!r}."
    if field == "file":
        return "Bad request: it has no clip; send it as the file of the multipart field 'file'."
    legal = first.get("ctx", {}).get("expected", first["msg"])
    return f"Bad {field} {str(value)[:40]!r}: expected {legal}."
