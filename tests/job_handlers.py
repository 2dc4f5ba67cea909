"""Job handlers for tests of the server: they start at once, and do what their file says."""

import os
import time
from functools import partial

from avser.errors import BundleError, MediaError
from avser.types import FaceBox, Prediction, TimelineEntry
from avser.web.jobs import Job, JobResult, Model, Progress, Render, Report
from avser.web.limits import TooLongError

ROW = {
    "name": "fake",
    "emotions": ["happy", "sad"],
    "modalities": ["audio"],
    "parameters": 3,
    "uar": None,
    "split": None,
    "licence": "none",
}


def predicted(path: str, *, share: float = 0.75) -> Prediction:
    """A prediction of half a second."""
    shares = {"happy": share, "sad": 1 - share}
    step = TimelineEntry(start_s=0.0, end_s=0.5, label="happy", probabilities=shares)
    return Prediction(
        label="happy",
        probabilities=shares,
        modalities=("audio",),
        reason=f"Damaged {path}: the rest is used",
        duration_s=0.5,
        timeline=(step,),
        model="fake",
        path=path,
        boxes=(FaceBox(time_s=0.0, x=0.1, y=0.1, w=0.5, h=0.5, score=0.9),),
    )


class FakeJobHandler:
    """Does what the clip's first word says: hang, crash, bug, bad, long, slow, or answer."""

    models = (Model(row=ROW, card="# A card"),)

    def __call__(self, job: Job, report: Report) -> JobResult | bytes:
        if isinstance(job, Render):
            sound = job.path.read_bytes() if job.path is not None else b""
            return f"{job.format} of {job.prediction.label}".encode() + sound
        word = job.path.read_bytes()[:40].split()[0].decode()
        if word == "hang":
            time.sleep(600)
        if word == "slow":
            report(Progress(stage="faces", share=0.5, read_s=0.25))
            time.sleep(0.3)
        if word == "crash":
            os._exit(7)
        if word == "bug":
            raise ValueError("a traceback that nobody is to see")
        if word == "bad":
            raise MediaError(f"Can't read {job.path}: it is bad; send another.")
        if word == "long":
            raise TooLongError(f"Bad clip {job.path}: longer than {job.longest_s:g} s; cut it.")
        (job.path.parent / "left").write_text("a temporary file of the worker")
        prediction = predicted(str(job.path))
        if not job.details:
            return JobResult(prediction=prediction)
        return JobResult(prediction=prediction, voice=prediction, peaks=(0.0, 1.0), has_video=True)


def make_handler(*, fails: bool = False) -> FakeJobHandler:
    """Set one up, or fail as a model does that can't be loaded."""
    if fails:
        raise BundleError("Bad model 'x': there is none.")
    return FakeJobHandler()


failing_handler = partial(make_handler, fails=True)
