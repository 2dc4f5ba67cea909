"""Classification of uploads for page and HTTP interface: folders, deadlines, file names."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from avser.errors import AvserError
from avser.types import Prediction
from avser.web.jobs import Annotate, Classify, FaceChoice, JobResult, Modality
from avser.web.limits import Limits
from avser.web.workers import HandlerFactory, Workers


class Service:
    """Classifies uploads with workers, and keeps nothing of them.

    Args:
        make: sets up the handler in each worker; see `avser.web.workers`.
        limits: of the server.
        folder: where uploads lie until they are classified; readable to us alone.

    Attributes:
        uploads: folder of what was sent to the page and not yet classified.
    """

    def __init__(self, make: HandlerFactory, *, limits: Limits, folder: Path) -> None:
        self.limits, self.folder, self.uploads = limits, folder, folder / "page"
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
        self,
        path: Path,
        *,
        name: str,
        deadline: float,
        modality: Modality = "auto",
        faces: FaceChoice = "main",
        plot: bool = False,
    ) -> JobResult:
        """Classify a file.

        Args:
            path: of the file, in a `private` folder.
            name: that it has for its owner; results and errors name it so.
            deadline: of `time.monotonic`.
            modality: which streams to use.
            faces: "all" adds a prediction of each face alone.
            plot: whether to draw the timeline.

        Raises:
            RefusedError: it lasts too long, or had no result in time.
            AvserError: it can't be read, or lacks a stream.
        """
        job = Classify(
            path=path,
            modality=modality,
            faces=faces,
            longest_s=self.limits.duration_s,
            plot=plot,
        )
        try:
            result = await self.workers.ask(job, deadline=deadline)
        except AvserError as error:
            raise type(error)(str(error).replace(str(path), name)) from error
        found = result.prediction
        reason = found.reason.replace(str(path), name) if found.reason else found.reason
        return replace(result, prediction=replace(found, path=name, reason=reason))

    async def annotate(self, path: Path, prediction: Prediction, *, deadline: float) -> bytes:
        """Annotate a copy of a clip, an mp4; see `classify`."""
        return await self.workers.ask(Annotate(path=path, prediction=prediction), deadline=deadline)

    def close(self) -> None:
        """End the workers and remove what is left of uploads."""
        self.workers.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def plain_name(name: str | None) -> str:
    """The last part of a name that somebody gave, whatever system it is from.

    >>> plain_name("C:/Users/me/take 1.mp4"), plain_name("../../etc/passwd"), plain_name(None)
    ('take 1.mp4', 'passwd', 'clip')
    """
    found = PureWindowsPath(name or "").name  # knows both kinds of slashes
    return "".join(c for c in found if c.isprintable())[:200] or "clip"
