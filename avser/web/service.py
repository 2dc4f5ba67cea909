"""Classification of uploads: folders, deadlines, file names."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from avser.errors import AvserError
from avser.web.jobs import Classify, JobResult, Render, Report
from avser.web.limits import Limits
from avser.web.workers import HandlerFactory, Workers


class Service:
    """Classifies uploads with workers, and keeps nothing of them.

    Args:
        make: sets up the handler in each worker; see `avser.web.workers`.
        limits: of the server.
        folder: of uploads, until they are classified; readable by the server's user alone.
    """

    def __init__(self, make: HandlerFactory, *, limits: Limits, folder: Path) -> None:
        self.limits, self.folder = limits, folder
        self.workers = Workers(make, limits=limits)

    def deadline(self) -> float:
        """Deadline of a request that begins now, of `time.monotonic`."""
        return time.monotonic() + self.limits.time_s

    @contextmanager
    def private(self) -> Iterator[Path]:
        """Make a folder for one clip, and remove it with all that is in it."""
        folder = Path(tempfile.mkdtemp(prefix="clip-", dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def classify(
        self, job: Classify, *, name: str, deadline: float, report: Report | None = None
    ) -> JobResult:
        """Classify a file.

        Args:
            job: whose file lies in a `private` folder.
            name: that the file has for its owner; results and errors name it so.
            deadline: of `time.monotonic`.
            report: called with the job's progress, in another thread.

        Raises:
            RefusedError: it lasts too long, or had no result in time.
            AvserError: it can't be read, or lacks a stream.
        """
        path = str(job.path)
        try:
            result = await self.workers.ask(job, deadline=deadline, report=report)
        except AvserError as error:
            raise type(error)(str(error).replace(path, name)) from error
        prediction = result.prediction
        reason = prediction.reason.replace(path, name) if prediction.reason else None
        return replace(result, prediction=replace(prediction, path=name, reason=reason))

    async def render(self, job: Render, *, deadline: float) -> bytes:
        """Write a prediction in a format; see `classify`."""
        try:
            return await self.workers.ask(job, deadline=deadline)
        except AvserError as error:
            name = job.prediction.path or "clip"
            raise type(error)(str(error).replace(str(job.path), name)) from error

    def close(self) -> None:
        """End the workers and remove what is left of uploads."""
        self.workers.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def plain_name(name: str | None) -> str:
    """Return the last part of a file name of any operating system.

    >>> plain_name("C:/Users/me/take 1.mp4"), plain_name("../../etc/passwd"), plain_name(None)
    ('take 1.mp4', 'passwd', 'clip')
    """
    last = PureWindowsPath(name or "").name  # knows both kinds of slashes
    return "".join(c for c in last if c.isprintable())[:200] or "clip"
