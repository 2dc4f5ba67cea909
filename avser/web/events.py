"""Classification with its progress: JSON objects, one a line, as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from avser.errors import AvserError
from avser.types import FaceBox, Prediction
from avser.web.jobs import Classify, JobResult, Progress
from avser.web.request_limiter import content_of
from avser.web.service import Service

EVENTS = "application/x-ndjson"

_QUEUE_S = 0.25  # between two looks at the queue


class EventResponse(StreamingResponse):
    """Lines of JSON; what the job needs is released when the response ends, however it ends.

    Args:
        events: objects to send.
        resources: to release.
    """

    def __init__(self, events: AsyncIterator[dict[str, Any]], resources: ExitStack) -> None:
        lines = (json.dumps(event) + "\n" async for event in events)
        super().__init__(lines, media_type=EVENTS)
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines."""
        with self._resources:
            await super().__call__(scope, receive, send)


async def classify_events(
    service: Service, job: Classify, *, name: str, deadline: float
) -> AsyncIterator[dict[str, Any]]:
    """Classify a file; yield its place in the queue, its progress, and the result or the error."""
    loop, reports = asyncio.get_running_loop(), asyncio.Queue[Progress]()

    def report(progress: Progress) -> None:
        loop.call_soon_threadsafe(reports.put_nowait, progress)

    work = asyncio.create_task(service.classify(job, name=name, deadline=deadline, report=report))
    try:
        await asyncio.sleep(0)  # lets it join the queue
        position = service.workers.position(job)
        yield {"stage": "queue", "position": position} if position else {"stage": "decode"}
        while not work.done() or not reports.empty():
            with suppress(TimeoutError):
                async with asyncio.timeout(_QUEUE_S):
                    yield asdict(await _next(reports, work))
                    continue
            now = service.workers.position(job)
            if now and now != position:
                yield {"stage": "queue", "position": now}
            position = now
        result = await work
    except AvserError as error:
        yield content_of(error, path=name)
    else:
        yield {"result": details(result)}
    finally:
        work.cancel()


async def _next(reports: asyncio.Queue[Progress], work: asyncio.Task[JobResult]) -> Progress:
    """The next report; `TimeoutError` where the work ends before it."""
    getting = asyncio.create_task(reports.get())
    try:
        await asyncio.wait({getting, work}, return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            raise TimeoutError
        return getting.result()
    finally:
        getting.cancel()


def details(result: JobResult) -> dict[str, Any]:
    """A prediction with all that the page shows of it."""
    prediction, voice = result.prediction, result.voice
    return {
        "faces": [],
        **prediction.to_dict(),
        "boxes": [_box(box) for box in prediction.boxes],
        "voice": None if voice is None else _part(voice),
        "peaks": list(result.peaks),
        "has_video": result.has_video,
    }


def _part(prediction: Prediction) -> dict[str, Any]:
    result = prediction.to_dict()
    return {key: result[key] for key in ("label", "probabilities", "timeline", "model")}


def _box(box: FaceBox) -> dict[str, float]:
    return {key: round(value, 4) for key, value in asdict(box).items()}
