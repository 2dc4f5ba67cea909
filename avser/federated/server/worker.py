"""Worker process of the federation's HTTP API."""

import logging
from pathlib import Path

from avser.errors import AvserError
from avser.web.job_handler import JobHandler, load
from avser.web.jobs import Job, Model, Reply, Report

_log = logging.getLogger(__name__)


class LatestReleaseHandler:
    """Runs jobs with the latest release, which is loaded again after each new one.

    Args:
        folder: of the latest bundle, which is replaced in one step.
        threads: of torch in this process.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._folder, self._threads = folder, threads
        self._version, self._handler = self._current_version(), self._load()

    def _current_version(self) -> str:
        """Name of the weights' file, which contains their hash."""
        return next((p.name for p in self._folder.glob("model-*.safetensors")), "")

    def _load(self) -> JobHandler:
        return load(model=str(self._folder), device="cpu", threads=self._threads)

    @property
    def models(self) -> tuple[Model, ...]:
        """Loaded models."""
        return self._handler.models

    def __call__(self, job: Job, report: Report) -> Reply:
        """Run a job; see `avser.web.job_handler.JobHandler`."""
        version = self._current_version()
        if version and version != self._version:
            try:
                self._handler, self._version = self._load(), version
            except AvserError as error:
                _log.warning(
                    "The new release could not be loaded, the previous one stays in use: %s", error
                )
        return self._handler(job, report)
