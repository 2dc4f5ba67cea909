"""EmoNet's doors over HTTP: the newest model, a test of it, a prediction; and a status page.

Contributions come in through Flower, with TLS and node keys. Here anybody may ask, or whoever has
the token; uploads are decoded in worker processes that can be ended, as `avser.web` does it.
"""

import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from fastapi import Body, FastAPI, File, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response

from avser.bundle import serialization as bundle
from avser.errors import AvserError, SignalError
from avser.evaluation.numbers import format_figure
from avser.federated.server.mfcc import answer_cepstra
from avser.federated.server.releases import LatestRelease, pack
from avser.federated.server.worker import LatestReleaseHandler
from avser.web.api import create_api
from avser.web.limits import Limits
from avser.web.request_limiter import refusal
from avser.web.service import Service, plain_name


def start_federation_api(newest: LatestRelease) -> Service:
    """Start a worker with the newest model, and wait until it is ready."""
    limits = Limits(upload_mb=25.0, duration_s=60.0, concurrency=1, queue=8, time_s=60.0)
    make = partial(LatestReleaseHandler, newest.folder / "bundle")
    service = Service(make, limits=limits, folder=Path(tempfile.mkdtemp(prefix="avser-doors-")))
    try:
        service.workers.wait()
    except BaseException:
        service.close()
        raise
    return service


def create_federation_api(
    newest: LatestRelease, service: Service, *, token: str | None = None
) -> FastAPI:
    """Return the application.

    Args:
        newest: models of the run.
        service: that reads uploads; closed with the application.
        token: bearer token that ``/v1/`` asks for, or None.
    """
    app = create_api(service, token=token)
    _add_states(app, newest)
    _add_questions(app, newest, service)
    return app


def _add_states(app: FastAPI, newest: LatestRelease) -> None:
    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        """Show how far the federation is."""
        return status_page(await run_in_threadpool(newest.status))

    @app.get("/v1/status")
    async def status() -> dict[str, Any]:
        """Round, clients, figures over rounds and refusals."""
        return await run_in_threadpool(newest.status)

    @app.get("/v1/model", responses={200: {"content": {"application/zip": {}}}})
    async def model(arm: str = "A") -> Response:
        """Fetch the newest model, a zip of a bundle; arm B is the one that it is compared with."""
        try:
            folder = newest.bundle_of(arm)
            content = await run_in_threadpool(pack, folder)
        except AvserError as error:
            return refusal(error)
        name = f"avser-{arm}-{max(newest.update, 0)}.zip"
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Avser-Round": str(max(newest.update, 0)),
        }
        return Response(content, media_type="application/zip", headers=headers)


def _add_questions(app: FastAPI, newest: LatestRelease, service: Service) -> None:
    one = Lock()  # a test takes all of the processor

    def tested(corpus: str, arm: str) -> dict[str, Any]:
        with one:
            return newest.test(corpus, arm)

    @app.post("/v1/test")
    async def test(
        corpus: Annotated[str, Body(embed=True)], arm: Annotated[str, Body(embed=True)] = "A"
    ) -> Response:
        """Measure the newest model on one of the server's corpora."""
        try:
            return JSONResponse(await run_in_threadpool(tested, corpus, arm))
        except AvserError as error:
            return refusal(error)

    @app.post("/v1/predict")
    async def predict(
        request: Request,
        file: Annotated[UploadFile | None, File(description="a recording")] = None,
    ) -> Response:
        """Label a recording, or a JSON object ``{"mfcc": [[...], ...]}`` of MFCC frames."""
        try:
            if file is None:
                sent = await request.json()
                rows = sent.get("mfcc") if isinstance(sent, Mapping) else None
                net = bundle.load(newest.bundle_of("A")).net
                found = await run_in_threadpool(answer_cepstra, net, rows or [])
                return JSONResponse({**found, "round": max(newest.update, 0)})
            return await _of_sound(file, request, service)
        except ValueError:
            return refusal(SignalError("Bad request: expected the file of a form, or JSON."))
        except AvserError as error:
            return refusal(error)


async def _of_sound(file: UploadFile, request: Request, service: Service) -> Response:
    name = plain_name(file.filename)
    with service.private() as folder:
        path = folder / "clip"
        with path.open("wb") as kept:
            await run_in_threadpool(shutil.copyfileobj, file.file, kept)
        answer = await service.classify(
            path, name=name, deadline=request.state.deadline, modality="audio"
        )
    return JSONResponse(answer.prediction.to_dict())


def status_page(status: Mapping[str, Any]) -> str:
    """The status as a page without scripts; names of clients stay out of it."""
    here = sum(bool(c["here"]) for c in status["clients"])
    facts = {
        "Round": f"{status['round']} of {status['rounds']}",
        "Strategy": status["strategy"],
        "Clients here": here,
        "Contributions": status["contributions"],
        "Refused, late or capped": len(status["refusals"]),
        "Epsilon": "–" if status["epsilon"] is None else f"{status['epsilon']:.2f}",
    }
    rows = "".join(f"<tr><th>{k}<td>{escape(str(v))}" for k, v in facts.items())
    figures = "".join(
        f"<tr><td>{escape(update)}<td>{escape(name)}<td>{format_figure(row['uar'])}"
        f"<td>{format_figure(row['accuracy'])}"
        for update, tests in sorted(status["measured"].items(), key=lambda item: int(item[0]))
        for name, row in tests.items()
    )
    reasons = "".join(
        f"<li>{escape(str(x['what']))}: {escape(str(x['reason']))}"
        for x in status["refusals"][-10:]
        if "reason" in x
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>avser federation</title>'
        '<meta http-equiv="refresh" content="10">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:46rem;padding:0 1rem}"
        "th{text-align:left;padding-right:2rem;font-weight:600}td{padding-right:1.5rem}</style>"
        f"<h1>Federation</h1><table>{rows}</table>"
        "<h2>Newest models on the server's clips</h2>"
        f"<table><tr><th>Round<th>Corpus<th>UAR<th>Accuracy{figures}</table>"
        f"<h2>Last refusals</h2><ul>{reasons or '<li>none'}</ul></html>"
    )
