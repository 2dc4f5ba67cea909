"""The HTTP interface: ``POST /v1/classify``, ``GET /v1/models``, ``GET /healthz``, OpenAPI."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from avser import __version__
from avser.errors import AvserError
from avser.web.jobs import FaceChoice, Modality
from avser.web.request_limiter import RequestLimiter, refusal
from avser.web.schema import ClipSchema, Health, Models, Refusal
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
    _add_states(app, service)
    return app


def _add_classify(app: FastAPI, service: Service) -> None:
    @app.post("/v1/classify", responses={200: {"model": ClipSchema}, **_REFUSALS})
    async def classify(
        request: Request,
        file: Annotated[UploadFile, File(description="the clip, any usual sound or video")],
        modality: Annotated[Modality, Form(description="streams to use")] = "auto",
        faces: Annotated[FaceChoice, Form(description="all: each face alone too")] = "main",
    ) -> JSONResponse:
        """Classify one clip; the upload is deleted before the response is sent."""
        name = plain_name(file.filename)
        try:
            with service.private() as folder:
                path = folder / "clip"
                with path.open("wb") as kept:
                    await run_in_threadpool(shutil.copyfileobj, file.file, kept)
                result = await service.classify(
                    path,
                    name=name,
                    deadline=request.state.deadline,
                    modality=modality,
                    faces=faces,
                )
        except AvserError as error:
            return refusal(error, path=name)
        return JSONResponse(result.prediction.to_dict())


def _add_states(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=Models, responses={401: _REFUSALS[401]})
    async def models() -> dict[str, Any]:
        """List the loaded models."""
        return {"models": [model.row for model in service.workers.models]}

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
    if first["type"] == "missing" or field == "file":
        return "Bad request: it has no clip; send it as the file of the multipart field 'file'."
    legal = first.get("ctx", {}).get("expected", first["msg"])
    return f"Bad {field} {str(value)[:40]!r}: expected {legal}."
