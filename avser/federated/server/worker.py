"""What a worker process answers with: always the newest model of a run."""

import logging
from pathlib import Path

from avser.errors import AvserError
from avser.web.job_handler import JobHandler, load
from avser.web.jobs import Annotate, Classify, JobResult, Model

_log = logging.getLogger(__name__)


class LatestReleaseHandler:
    """A handler that looks before every job whether there is a newer model.

    Args:
        folder: of the newest bundle, which is replaced whole.
        threads: of torch in this process.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._folder, self._threads = folder, threads
        self._stamp, self._desk = self._now(), self._load()

    def _now(self) -> str:
        """Name of the weights' file, which holds their hash."""
        return next((p.name for p in self._folder.glob("model-*.safetensors")), "")

    def _load(self) -> JobHandler:
        return load(model=str(self._folder), device="cpu", threads=self._threads)

    @property
    def models(self) -> tuple[Model, ...]:
        """Models that are loaded."""
        return self._desk.models

    def __call__(self, job: Classify | Annotate) -> JobResult | bytes:
        """Do a job; see `avser.web.job_handler.JobHandler`."""
        stamp = self._now()
        if stamp and stamp != self._stamp:
            try:
                self._desk, self._stamp = self._load(), stamp
            except AvserError as error:
                _log.warning("The model before this one serves on: %s", error)
        return self._desk(job)
