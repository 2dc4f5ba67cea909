"""Execution of jobs in a worker process; torch is loaded when a handler is made."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from avser.web.jobs import Annotate, Classify, JobResult, Model
from avser.web.limits import TooLongError

if TYPE_CHECKING:
    from avser.inference.predictor import Predictor


def load(*, model: str | None = None, device: str = "cpu", threads: int = 1) -> JobHandler:
    """Load a model and set up a handler with it.

    Args:
        model: released name or folder; None is the two default models.
        device: where the network runs.
        threads: of torch and OpenCV in this process.

    Raises:
        BundleError: there is no such model, or it is damaged or unsafe.
    """
    import cv2
    import torch

    from avser.bundle.serialization import DEFAULT_MODEL, default
    from avser.inference.predictor import Predictor

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    predictor = Predictor.from_pretrained(model, device=device)
    names = [model or default()] + ([] if predictor.voice is None else [DEFAULT_MODEL])
    return JobHandler(predictor, tuple(_model(name) for name in names))


def _model(name: str) -> Model:
    from avser.bundle.listing import listed
    from avser.bundle.serialization import find

    folder = find(name)
    row = listed(folder)
    card = folder / "README.md"
    return Model(
        row=row,
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
        has_video="video" in row["modalities"],
    )


class JobHandler:
    """Executes jobs with one predictor, one after another.

    Args:
        predictor: that classifies.
        models: that it has loaded.
    """

    def __init__(self, predictor: Predictor, models: tuple[Model, ...]) -> None:
        self.predictor, self.models = predictor, models

    def __call__(self, job: Classify | Annotate) -> JobResult | bytes:
        """Do a job; temporary files stay in the folder of its clip.

        Raises:
            AvserError: the clip can't be read, lacks a stream, or lasts too long.
        """
        # whoever asked removes that folder, also when this process had to be ended
        tempfile.tempdir = str(job.path.parent)
        return self._classify(job) if isinstance(job, Classify) else self._annotate(job)

    def _classify(self, job: Classify) -> JobResult:
        from avser.inference.predictor import Failure
        from avser.media.reader import probe

        def watch(_path: str, now_s: float, stated_s: float | None) -> None:
            if max(now_s, stated_s or 0.0) > job.longest_s:
                raise TooLongError(
                    f"Bad clip {job.path}: it lasts longer than the {job.longest_s:g} s that this "
                    "server takes; cut it."
                )

        watch(str(job.path), 0.0, probe(job.path).duration_s)
        (found,) = self.predictor.classify(
            [job.path], modality=job.modality, faces=job.faces, workers=1, progress=watch
        )
        if isinstance(found, Failure):
            raise found.error
        if not job.plot:
            return JobResult(prediction=found)
        from avser.visualization.annotate import thumbnails
        from avser.visualization.clip_plots import timeline_figure
        from avser.visualization.plots import render

        figure = timeline_figure(found, faces=thumbnails(found, job.path))
        return JobResult(prediction=found, plot=render(figure, dpi=110))

    def _annotate(self, job: Annotate) -> bytes:
        from avser.visualization.annotate import annotate

        made = annotate(job.prediction, job.path, job.path.with_name("annotated.mp4"))
        return made.read_bytes()
