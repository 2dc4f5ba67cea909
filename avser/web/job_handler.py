"""Execution of jobs in a worker process; torch is loaded when a handler is made."""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from avser.errors import AvserError, ConfigError, unknown
from avser.types import SAMPLE_RATE, Prediction
from avser.web.jobs import (
    Classify,
    ClassifyLive,
    Job,
    JobResult,
    Model,
    Progress,
    Render,
    Reply,
    Report,
    Stage,
)
from avser.web.limits import TooLongError

if TYPE_CHECKING:
    from avser.inference.predictor import Predictor
    from avser.media.clip import AudioBuffer, LoadedClip

FIGURES = ("pdf", "svg", "png")

_REPORT_S = 0.1


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

    def __call__(self, job: Job, report: Report) -> Reply:
        """Do a job; temporary files stay in the folder of its clip.

        Args:
            job: to do.
            report: called with the job's progress, at most ten times a second.

        Raises:
            AvserError: the clip can't be read, lacks a stream, or lasts too long.
        """
        # the server removes that folder, even if this process is killed
        if isinstance(job, Render):
            tempfile.tempdir = str(job.folder)
            return _render(job)
        if isinstance(job, ClassifyLive):
            from avser.inference.live_window import predict_live

            tempfile.tempdir = str(job.folder)
            return predict_live(self.predictor, job.window)
        tempfile.tempdir = str(job.path.parent)
        return self._classify(job, report)

    def _classify(self, job: Classify, report: Report) -> JobResult:
        from avser.inference.classifier import Request, failure_of
        from avser.media.reader import probe

        predictor = self._choose(job.model)
        report(Progress(stage="decode", share=0.0))
        info = probe(job.path)
        _check_length(job, info.duration_s)
        faces = "all" if job.details else job.faces
        request = Request(
            modality=job.modality,
            faces=faces,
            progress=_Watch(job, report, faces=info.has_video and predictor.net.video is not None),
        )
        predictor.check(request)
        try:
            with predictor.load(str(job.path), request) as clip:
                report(Progress(stage="model", share=1.0))
                (prediction,) = predictor.predict([clip], request)
                prediction = replace(prediction, path=str(job.path))
                if not job.details:
                    return JobResult(prediction=prediction, has_video=clip.has_video)
                return JobResult(
                    prediction=prediction,
                    voice=_voice_alone(predictor, clip, prediction),
                    peaks=peaks_of(clip.sound, clip.duration_s),
                    has_video=clip.has_video,
                )
        except AvserError:
            raise
        except Exception as error:  # decoders raise errors of many kinds on damaged files
            raise failure_of(str(job.path), error).error from error

    def _choose(self, name: str | None) -> Predictor:
        """The predictor with that model alone; the usual one without a name.

        Raises:
            ConfigError: no such model is loaded.
        """
        from avser.inference.predictor import Predictor

        usual, voice = self.predictor, self.predictor.voice
        if name is None:
            return usual
        if voice is not None and name == voice.name:
            return voice
        if name != usual.name:
            raise ConfigError(unknown("model", name, [m.row["name"] for m in self.models]))
        return Predictor(
            usual.net, name=usual.name, device=str(usual.device), detector=usual.detector
        )


def _check_length(job: Classify, seconds: float | None) -> None:
    if (seconds or 0.0) > job.longest_s:
        raise TooLongError(
            f"Bad clip {job.path}: it lasts longer than the {job.longest_s:g} s that this "
            "server takes; cut it."
        )


class _Watch:
    """Progress callback: reports the progress of a clip, and refuses one that is too long."""

    def __init__(self, job: Classify, report: Report, *, faces: bool) -> None:
        self._job, self._report = job, report
        looks = faces and job.modality != "audio"
        self._stage: Stage = "faces" if looks else "decode"
        self._last = 0.0

    def __call__(self, _path: str, now_s: float, stated_s: float | None) -> None:
        _check_length(self._job, max(now_s, stated_s or 0.0))
        if time.monotonic() - self._last >= _REPORT_S:
            self._last = time.monotonic()
            share = min(1.0, now_s / stated_s) if stated_s else None
            self._report(Progress(stage=self._stage, share=share, read_s=now_s))


def _voice_alone(
    predictor: Predictor, clip: LoadedClip, prediction: Prediction
) -> Prediction | None:
    """The audio branch's own prediction where both branches were used."""
    from avser.inference.classifier import Request

    if prediction.modalities != ("audio", "video"):
        return None
    (voice,) = predictor.predict([clip], Request(modality="audio"))
    return voice


def peaks_of(sound: AudioBuffer, duration_s: float, *, count: int = 600) -> tuple[float, ...]:
    """Return the highest absolute sample in ``count`` equal parts of a clip; () without sound."""
    if not sound.count:
        return ()
    import numpy as np

    edges = np.linspace(0, max(duration_s * SAMPLE_RATE, sound.count), count + 1).astype(int)
    parts = (sound.cut(int(a), max(1, int(b - a))) for a, b in itertools.pairwise(edges))
    return tuple(round(float(np.abs(part).max(initial=0.0)), 3) for part in parts)


def _render(job: Render) -> bytes:
    from avser.inference.writers import timeline_text

    if job.format == "mp4":
        from avser.visualization.annotate import annotate

        if job.path is None:
            raise ConfigError("Bad format mp4: it is drawn on the clip; send the clip as file.")
        return annotate(job.prediction, job.path, job.folder / "annotated.mp4").read_bytes()
    if job.format in FIGURES:
        from avser.visualization.annotate import thumbnails
        from avser.visualization.clip_plots import timeline_figure
        from avser.visualization.plots import render

        faces = thumbnails(job.prediction, job.path) if job.path is not None else []
        return render(timeline_figure(job.prediction, faces=faces), format=job.format)
    return timeline_text(job.prediction, job.format).encode()
