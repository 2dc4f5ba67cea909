"""HTTP API of the federation server: latest model, evaluation, prediction and a status page.

Contributions arrive through Flower, with TLS and node keys. This API is open, or requires a bearer
token. Uploads are decoded in worker processes that can be ended, as in `avser.web`.
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
from avser.federated.server.mfcc import predict_mfcc
from avser.federated.server.releases import LatestRelease, pack
from avser.federated.server.worker import LatestReleaseHandler
from avser.web.api import create_api
from avser.web.jobs import Classify
from avser.web.limits import Limits
from avser.web.request_limiter import refusal
from avser.web.service import Service, plain_name


def start_federation_api(release: LatestRelease) -> Service:
    """Start a worker with the latest release, and wait until it is ready."""
    limits = Limits(upload_mb=25.0, duration_s=60.0, concurrency=1, queue=8, time_s=60.0)
    make = partial(LatestReleaseHandler, release.folder / "bundle")
    service = Service(make, limits=limits, folder=Path(tempfile.mkdtemp(prefix="avser-api-")))
    try:
        service.workers.wait()
    except BaseException:
        service.close()
        raise
    return service


def create_federation_api(
    release: LatestRelease, service: Service, *, token: str | None = None
) -> FastAPI:
    """Return the application.

    Args:
        release: latest release of the run.
        service: decodes uploads; closed with the application.
        token: bearer token required under ``/v1/``, or None.
    """
    app = create_api(service, token=token)
    _add_status(app, release)
    _add_predictions(app, release, service)
    return app


def _add_status(app: FastAPI, release: LatestRelease) -> None:
    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        """Status page."""
        return status_page(await run_in_threadpool(release.status))

    @app.get("/v1/status")
    async def status() -> dict[str, Any]:
        """Round, clients, figures over rounds and refusals."""
        return await run_in_threadpool(release.status)

    @app.get("/v1/model", responses={200: {"content": {"application/zip": {}}}})
    async def model(arm: str = "A") -> Response:
        """Zip file of the latest bundle; arm B is the model that it is compared with."""
        try:
            folder = release.folder_of(arm)
            content = await run_in_threadpool(pack, folder)
        except AvserError as error:
            return refusal(error)
        name = f"avser-{arm}-{max(release.update, 0)}.zip"
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Avser-Round": str(max(release.update, 0)),
        }
        return Response(content, media_type="application/zip", headers=headers)


def _add_predictions(app: FastAPI, release: LatestRelease, service: Service) -> None:
    one = Lock()  # an evaluation uses all cores

    def evaluate(corpus: str, arm: str) -> dict[str, Any]:
        with one:
            return release.evaluate(corpus, arm)

    @app.post("/v1/test")
    async def test(
        corpus: Annotated[str, Body(embed=True)], arm: Annotated[str, Body(embed=True)] = "A"
    ) -> Response:
        """Evaluate the latest model on one of the server's corpora."""
        try:
            return JSONResponse(await run_in_threadpool(evaluate, corpus, arm))
        except AvserError as error:
            return refusal(error)

    @app.post("/v1/predict")
    async def predict(
        request: Request,
        file: Annotated[UploadFile | None, File(description="a recording")] = None,
    ) -> Response:
        """Predict from a recording, or from MFCC frames as JSON: ``{"mfcc": [[...], ...]}``."""
        try:
            if file is None:
                sent = await request.json()
                rows = sent.get("mfcc") if isinstance(sent, Mapping) else None
                net = bundle.load(release.folder_of("A")).net
                found = await run_in_threadpool(predict_mfcc, net, rows or [])
                return JSONResponse({**found, "round": max(release.update, 0)})
            return await _predict_file(file, request, service)
        except ValueError:
            return refusal(SignalError("Bad request: expected the file of a form, or JSON."))
        except AvserError as error:
            return refusal(error)


async def _predict_file(file: UploadFile, request: Request, service: Service) -> Response:
    name = plain_name(file.filename)
    with service.private() as folder:
        path = folder / "clip"
        with path.open("wb") as kept:
            await run_in_threadpool(shutil.copyfileobj, file.file, kept)
        job = Classify(path=path, modality="audio", longest_s=service.limits.duration_s)
        answer = await service.classify(job, name=name, deadline=request.state.deadline)
    return JSONResponse(answer.prediction.to_dict())


def status_page(status: Mapping[str, Any]) -> str:
    """Render the status as a page without scripts and without names of clients."""
    connected = sum(bool(c["here"]) for c in status["clients"])
    facts = {
        "Round": f"{status['round']} of {status['rounds']}",
        "Strategy": status["strategy"],
        "Connected clients": connected,
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
        f"<li>{escape(str(x['event']))}: {escape(str(x['reason']))}"
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
        "<h2>Results on the server's corpora</h2>"
        f"<table><tr><th>Round<th>Corpus<th>UAR<th>Accuracy{figures}</table>"
        f"<h2>Latest refusals</h2><ul>{reasons or '<li>none'}</ul></html>"
    )
