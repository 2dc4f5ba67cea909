"""Contributor's page: record an acted emotion, play it back, see the prediction, submit it.

The page is served on the contributor's own machine, to that machine alone. The latest model is
downloaded from the server. Recordings stay in the page's process; of a submitted one only the
chosen part is stored.
"""

import secrets
import shutil
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, Response
from numpy.typing import NDArray
from starlette.staticfiles import StaticFiles

from avser.bundle import serialization as bundle
from avser.errors import AvserError, MediaError
from avser.federated.client.contributions import Contributions
from avser.federated.client.remote import Federation
from avser.inference.predictor import Predictor
from avser.media.reader import read_audio
from avser.visualization.colours import COLOURS
from avser.web.page import PageHeaders
from avser.web.server import listen_at

REFRESH_S = 60.0  # shortest time between two downloads of the model
_MOST_BYTES = 20_000_000  # of a recording
#: Parts of the page of ``avser serve`` that this one has too.
_SHARED = ("style.css", "texts.js", "dom.js", "record.js")


class LatestModel:
    """Latest model of the server, downloaded again when it is old.

    Args:
        federation: the server; None uses the model in the folder.
        folder: of the bundle.
    """

    def __init__(self, federation: Federation | None, folder: Path) -> None:
        self._federation, self.folder = federation, folder
        self._fetched = 0.0
        self._lock = Lock()
        self.refresh()

    def refresh(self) -> None:
        """Download the model if a minute has passed; without a connection the old one stays in use.

        Raises:
            AvserError: there is neither an old nor a new model.
        """
        with self._lock:
            if self._federation is not None and time.monotonic() - self._fetched > REFRESH_S:
                try:
                    self._federation.model(self.folder)
                except AvserError:
                    if not (self.folder / "config.yaml").is_file():
                        raise
                self._fetched = time.monotonic()
            loaded = bundle.load(self.folder)
            predictor = Predictor(loaded.net, name=loaded.name, device="cpu")
            self.name, self.spec, self.predictor = (
                loaded.name,
                dict(loaded.config["net"]),
                predictor,
            )


class ContributionSession:
    """Recordings between prediction and submission; one waits at a time.

    Args:
        model: latest model.
        contributions: of the contributor.
        scratch: folder for a recording while it is read.
    """

    def __init__(self, model: LatestModel, contributions: Contributions, scratch: Path) -> None:
        self.model, self.contributions, self.scratch = model, contributions, scratch
        self._waiting: tuple[str, NDArray[np.float32], str] | None = None

    def state(self) -> dict[str, Any]:
        """The next emotion to act, and the counts."""
        emotions = self.model.predictor.net.emotions
        prompt = self.contributions.prompt(emotions)
        return {"prompt": prompt, "tally": self.contributions.tally()}

    def predict(self, recording: UploadFile) -> dict[str, Any]:
        """Predict from a recording, and keep its samples until it is submitted or replaced.

        Raises:
            AvserError: it can't be read, is too large, or has no speech.
        """
        self._waiting = None
        path = self.scratch / secrets.token_hex(8)
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(recording.file, file)
            if path.stat().st_size > _MOST_BYTES:
                raise MediaError("Bad recording: it is over 20 MB; record one sentence.")
            samples = np.asarray(read_audio(path), dtype=np.float32)
        finally:
            path.unlink(missing_ok=True)
        started = time.perf_counter()
        prediction = self.model.predictor(samples, sample_rate=16_000)
        seconds = time.perf_counter() - started
        if prediction.label is None or prediction.probabilities is None:
            raise MediaError("Bad recording: it has no speech; record it again.")
        self._waiting = (secrets.token_hex(8), samples, prediction.label)
        return {
            "id": self._waiting[0],
            "label": prediction.label,
            "probabilities": dict(prediction.probabilities),
            "model": self.model.name,
            "seconds": round(seconds, 3),
        }

    def submit(self, identifier: str, prompted: str) -> dict[str, Any]:
        """Store the chosen part of the recording that waits; return the new state.

        Raises:
            MediaError: no recording of that name waits, or the model has no such emotion.
        """
        if self._waiting is None or self._waiting[0] != identifier:
            raise MediaError("Bad submission: its recording is gone; record it again.")
        if prompted not in self.model.predictor.net.emotions:
            raise MediaError(f"Bad emotion {prompted!r}: the model has no such class; reload.")
        _, samples, predicted = self._waiting
        self.contributions.submit(
            samples,
            prompted=prompted,
            predicted=predicted,
            net=self.model.predictor.net,
            model=self.model.spec,
        )
        self._waiting = None
        self.model.refresh()
        return self.state()

    def withdraw(self) -> dict[str, Any]:
        """Delete all contributions on this machine; return their number and the new state."""
        count = self.contributions.delete()
        return {"withdrawn": count, **self.state()}


def create_app(session: ContributionSession) -> FastAPI:
    """Return page and interface as one application."""
    app = FastAPI(title="avser: contribute", docs_url=None, redoc_url=None, openapi_url=None)
    page, shared = files("avser.federated.client") / "page", files("avser.export") / "page"

    @app.exception_handler(AvserError)
    async def refused(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": {"message": str(error)}}, 422)

    @app.middleware("http")
    async def own_page_alone(
        request: Request, call: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Refuse other sites' pages, which a browser lets send forms to this machine."""
        origin, host = request.headers.get("origin"), request.url.netloc
        own = request.url.hostname in ("127.0.0.1", "localhost")
        if not own or origin not in (None, f"http://{host}"):
            message = f"Bad origin {origin}: only this page itself may ask; open http://{host}."
            return JSONResponse({"error": {"message": message}}, 403)
        return await call(request)

    @app.get("/v1/contribution")
    def contribution() -> dict[str, Any]:
        keep = session.contributions.keep
        return {**session.state(), "keep": keep, "colours": dict(COLOURS)}

    @app.post("/v1/predict")
    def predict(file: Annotated[UploadFile, File()]) -> dict[str, Any]:
        return session.predict(file)

    @app.post("/v1/submit")
    def submit(id: Annotated[str, Form()], prompted: Annotated[str, Form()]) -> dict[str, Any]:
        return session.submit(id, prompted)

    @app.post("/v1/withdraw")
    def withdraw() -> dict[str, Any]:
        return session.withdraw()

    for name in _SHARED:
        app.add_route(f"/{name}", _file_route(str(shared / name)))
    app.mount("/", StaticFiles(directory=str(page), html=True))
    app.add_middleware(PageHeaders)
    return app


def _file_route(path: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        return FileResponse(path)

    return answer


def serve(session: ContributionSession, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve the page on this machine alone, until interrupted."""
    import uvicorn

    with listen_at("127.0.0.1", port) as at:
        ready(f"http://127.0.0.1:{at.getsockname()[1]}")
        config = uvicorn.Config(create_app(session), log_level="warning", ws="none")
        uvicorn.Server(config).run(sockets=[at])
