"""Classification of media files and samples with released models.

A clip goes one straight way: `ClipClassifier.classify` has it loaded in a thread (one pass over
the file), chooses the model by what was loaded, and predicts a batch of clips at once; long clips
are predicted in windows, so that memory does not grow with length.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

from avser.bundle import serialization as bundle
from avser.emotions import ordered
from avser.errors import AvserError, ConfigError, MediaError, SignalError, unknown
from avser.extras import require
from avser.files import local_copy
from avser.inference.runner import BATCH_CLIPS, Runner
from avser.inference.sources import MemorySource, memory_source
from avser.inference.windows import WINDOW_STEPS
from avser.media.clip import LoadedClip, load_clip, stream_check, wait_for
from avser.media.faces import FaceDetector, MtcnnDetector
from avser.media.pictures import is_picture, load_picture
from avser.media.visual_features import Features, read_features, scale_of
from avser.models.devices import bad_device, choose_device
from avser.models.encoders.features import FeatureVideoEncoder
from avser.models.net import EmotionNet
from avser.types import Prediction
from avser.visualization.attribution import Explanation

if TYPE_CHECKING:
    import pandas

Modality = Literal["auto", "audio", "video", "both"]
FaceChoice = Literal["main", "all"]
Progress = Callable[[str, float, float | None], None]

MODALITIES = ("auto", "audio", "video", "both")

_AHEAD = 2 * BATCH_CLIPS  # clips that are loaded or wait to be
_PICTURE_WEIGHT = 4  # a clip with faces counts as so many in a batch: its loading takes long

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """An input that could not be classified, and the error."""

    path: str
    error: AvserError

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object of a failed input."""
        return {
            "path": self.path,
            "error": {"type": type(self.error).__name__, "message": str(self.error)},
        }


@dataclass(frozen=True)
class Request:
    """What is asked of every clip of a job."""

    modality: Modality = "auto"
    faces: FaceChoice = "main"
    progress: Progress | None = None
    stopped: Event = field(default_factory=Event)


class ClipClassifier(ABC):
    """Classifies files in order: loads ahead in threads, predicts in batches."""

    @property
    @abstractmethod
    def emotions(self) -> tuple[str, ...]:
        """All emotions that a prediction may name, in the order of the vocabulary."""

    @abstractmethod
    def check(self, request: Request) -> None:
        """Raise `ConfigError` where no clip can be asked for that."""

    @abstractmethod
    def load(self, path: str, request: Request) -> LoadedClip:
        """Load a clip in one pass; called in threads.

        Raises:
            AvserError: it can't be read, or lacks the stream that was asked for.
        """

    @abstractmethod
    def predict(self, clips: Sequence[LoadedClip], request: Request) -> list[Prediction]:
        """Predict loaded clips."""

    def classify(
        self,
        paths: Iterable[str | Path],
        *,
        modality: Modality = "auto",
        faces: FaceChoice = "main",
        workers: int = 2,
        progress: Progress | None = None,
    ) -> Iterator[Prediction | Failure]:
        """Classify files in order; a bad one gives a `Failure` and the rest go on.

        Inputs are drawn as they are needed, a few dozen ahead, so that their number does not
        matter to memory.

        Args:
            paths: media files, pictures, addresses (``https://...``), or ``-`` for standard input.
            modality: streams to use; "auto" takes what there is, but not a still face beside a
                voice.
            faces: "all" also predicts every face alone.
            workers: loading threads.
            progress: called with path, seconds read and seconds in all while a file is read.

        Raises:
            ConfigError: the model can't do that for any clip.
        """
        request = Request(modality=modality, faces=faces, progress=progress)
        self.check(request)
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="load") as pool:
            ahead: deque[tuple[str, Future[LoadedClip | Failure]]] = deque()
            inputs = iter(paths)
            try:
                while self._fill(ahead, inputs, pool, request):
                    yield from self._predict_batch(_next_batch(ahead), request)
            finally:  # interrupted in the middle of an hour's film, it ends within a second
                request.stopped.set()
                pool.shutdown(cancel_futures=True)
                for _, future in ahead:
                    if future.done() and not future.cancelled():
                        _close(future.result())

    def to_frame(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        timeline: bool = False,
        modality: Modality = "auto",
        workers: int = 2,
    ) -> pandas.DataFrame:
        """Classify files into a table of pandas: one row a clip, or one row a step.

        Rows of clips have ``path, label, probability, modalities, reason, duration_s, model,
        error`` and a column for each emotion of the model; rows of steps have ``path, start_s,
        end_s, label, probability, error`` and the same. A file that can't be read has one row with
        its error.

        Args:
            paths: as of `classify`; one path is legal too.
            timeline: one row a step.
            modality: streams to use; "auto" takes what there is.
            workers: loading threads.

        Raises:
            ConfigError: pandas is not installed, or the model can't do that for any clip.
        """
        require("pandas", "pandas")
        from avser.inference.frame import clips_frame, timeline_frame

        names = [paths] if isinstance(paths, (str, Path)) else paths
        results = self.classify(names, modality=modality, workers=workers)
        make = timeline_frame if timeline else clips_frame
        return make((result.to_dict() for result in results), emotions=self.emotions)

    def _fill(
        self,
        ahead: deque[tuple[str, Future[LoadedClip | Failure]]],
        inputs: Iterator[str | Path],
        pool: ThreadPoolExecutor,
        request: Request,
    ) -> bool:
        """Have the next inputs loaded; False where none is left."""
        while len(ahead) < _AHEAD and (path := next(inputs, None)) is not None:
            ahead.append((str(path), pool.submit(self._load, str(path), request)))
        return bool(ahead)

    def _load(self, path: str, request: Request) -> LoadedClip | Failure:
        try:
            with local_copy(path, stopped=request.stopped.is_set) as file:
                try:
                    return self.load(str(file), request)
                except AvserError as error:
                    if str(file) == path:
                        raise
                    raise type(error)(str(error).replace(str(file), path)) from error
        except Exception as error:  # whatever a file does to a decoder, the others go on
            return failure_of(path, error)

    def _predict_batch(
        self, batch: Sequence[tuple[str, LoadedClip | Failure]], request: Request
    ) -> Iterator[Prediction | Failure]:
        clips = [(path, clip) for path, clip in batch if isinstance(clip, LoadedClip)]
        try:
            predictions = iter(self._predict_clips(clips, request))
            for _, clip in batch:
                yield clip if isinstance(clip, Failure) else next(predictions)
        finally:
            for _, clip in batch:
                _close(clip)

    def _predict_clips(
        self, clips: Sequence[tuple[str, LoadedClip]], request: Request
    ) -> list[Prediction | Failure]:
        """Predict clips together; where that fails, each alone, so that one does not end all."""
        if not clips:
            return []
        try:
            predictions = self.predict([clip for _, clip in clips], request)
        except Exception as error:
            if len(clips) == 1:
                return [failure_of(clips[0][0], error)]
            return [p for clip in clips for p in self._predict_clips([clip], request)]
        return [replace(p, path=path) for (path, _), p in zip(clips, predictions, strict=True)]


def _next_batch(
    ahead: deque[tuple[str, Future[LoadedClip | Failure]]],
) -> list[tuple[str, LoadedClip | Failure]]:
    """Take clips that fill a batch; it depends on the clips alone, not on how fast they load."""
    batch: list[tuple[str, LoadedClip | Failure]] = []
    weight = 0
    while ahead and weight < BATCH_CLIPS:
        clip = wait_for(ahead[0][1])
        batch.append((ahead.popleft()[0], clip))
        if isinstance(clip, LoadedClip):
            long = clip.steps > WINDOW_STEPS
            weight += BATCH_CLIPS if long else _PICTURE_WEIGHT if clip.has_video else 1
    return batch


def _close(clip: LoadedClip | Failure) -> None:
    if isinstance(clip, LoadedClip):
        clip.close()


def failure_of(path: str, error: Exception, *, doing: str = "") -> Failure:
    """Turn any exception into the row of its input; ``avser --debug`` logs the traceback.

    Args:
        path: the input.
        error: an `AvserError` is kept; any other becomes a `MediaError` of one sentence.
        doing: which part of the work failed, where it was not reading.
    """
    _log.debug("%s failed", path, exc_info=error)
    if isinstance(error, AvserError):
        return Failure(path, error)
    words = (error.strerror or "") if isinstance(error, OSError) else ""
    words = words or " ".join(f"{type(error).__name__}: {error}".split())
    cure = "check names and rights" if isinstance(error, OSError) else "see --debug"
    what = f"Failed {doing}" if doing else f"Can't read {path}"
    return Failure(path, MediaError(f"{what}: {words}; {cure}."))


class Predictor(ClipClassifier):
    """Classifies clips with one model, or with two: one for faces, one for the voice alone.

    Args:
        net: the network.
        name: of the model, given in every prediction.
        device: "auto" takes a GPU if there is one.
        detector: of faces; None is MTCNN, loaded when the first picture is looked at.
        features: table of precomputed video features with a row a file, named by its stem, for
            models whose video branch reads those.
        voice: predictor for clips in which no face is judged; None is this one.

    Raises:
        ConfigError: there is no such device.
    """

    def __init__(
        self,
        net: EmotionNet,
        *,
        name: str = "model",
        device: str = "auto",
        detector: FaceDetector | None = None,
        features: str | Path | None = None,
        voice: Predictor | None = None,
    ) -> None:
        self.device = choose_device(device)
        try:
            self.net = net.eval().to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise bad_device(device, error) from error
        self.name, self.detector, self.features, self.voice = name, detector, features, voice
        self._runner = Runner(self.net, self.device, name=name)
        self._lock = Lock()
        self._scale: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        device: str = "auto",
        allow: Sequence[str] = (),
        detector: FaceDetector | None = None,
        features: str | Path | None = None,
    ) -> Self:
        """Load a released model by name, or a bundle or run folder.

        Args:
            model: name, folder, or ``hf://OWNER/NAME`` on the Hugging Face Hub. None takes two
                models: the audio-visual default where a face is judged, and the most accurate
                voice model elsewhere.
            device: see `Predictor`.
            allow: packages besides avser whose classes the bundle may name.
            detector: see `Predictor`.
            features: see `Predictor`.

        Raises:
            BundleError: there is no such model, or it is damaged or unsafe.
        """
        loaded = bundle.load(bundle.default() if model is None else model, allow=allow)
        voice = None
        if model is None and loaded.net.video is not None:
            audio = bundle.load(bundle.DEFAULT_MODEL)
            voice = cls(audio.net, name=audio.name, device=device)
        return cls(
            loaded.net,
            name=loaded.name,
            device=device,
            detector=detector,
            features=features,
            voice=voice,
        )

    @overload
    def __call__(
        self,
        source: list[Any],
        *,
        sample_rate: int | None = None,
        modality: Modality = "auto",
    ) -> list[Prediction]: ...

    @overload
    def __call__(
        self,
        source: Any,  # noqa: ANN401 (pictures of PIL and decoders of datasets have no common type)
        *,
        sample_rate: int | None = None,
        modality: Modality = "auto",
    ) -> Prediction: ...

    def __call__(
        self,
        source: Any,
        *,
        sample_rate: int | None = None,
        modality: Modality = "auto",
    ) -> Prediction | list[Prediction]:
        """Classify a file or what is in memory already, or a list of either.

        Args:
            source: a path; samples ``[S]`` or ``[channels, S]`` in -1..1; a picture of PIL or as
                uint8 ``[H, W, 3]``; a dict with ``array`` and ``sampling_rate``, as audio columns
                of ``datasets`` have, with ``frames`` and ``fps``, or with all four; or a list.
            sample_rate: of arrays of samples, in Hz.
            modality: streams to use; "auto" takes what there is.

        Raises:
            AvserError: a clip can't be read or lacks the stream that was asked for.
        """
        sources = source if isinstance(source, list) else [source]
        request = Request(modality=modality)
        self.check(request)
        in_memory = [memory_source(s, sample_rate=sample_rate) for s in sources]
        paths = [s for s, memory in zip(sources, in_memory, strict=True) if memory is None]
        of_files = self.classify(paths, modality=modality)
        predictions: list[Prediction] = []
        for memory in in_memory:
            result = next(of_files) if memory is None else self._predict_memory(memory, request)
            if isinstance(result, Failure):
                raise result.error
            predictions.append(result)
        return predictions if isinstance(source, list) else predictions[0]

    def explain(
        self, path: str | Path, *, emotion: str | None = None, modality: Modality = "auto"
    ) -> Explanation:
        """Explain the prediction of a clip: which steps, bands and face regions decided.

        Args:
            path: of the clip, of at most 61 s.
            emotion: to explain; None is the most probable one.
            modality: streams to use; "auto" takes what there is.

        Raises:
            AvserError: the clip can't be read, is too long, or has nothing to judge.
        """
        request = Request(modality=modality)
        self.check(request)
        with local_copy(str(path)) as file, self.load(str(file), request) as clip:
            model = self._choose(clip, modality)
            return model._runner.explain(clip, emotion=emotion, modality=modality)

    def enrol(self, files: Sequence[str | Path], *, own: bool = False) -> None:
        """Normalise by a person's own clips, whose emotions need not be known.

        Voices are normalised where the model does so by speaker, and faces are centred on the
        person's mean log probabilities, which predictions mark in `reason`.

        A voice's predictions name the model with the mark ENROLLED.

        Args:
            files: of one person; with a table of features, their rows count too.
            own: the files are those that are predicted: five clips or more, or over 60 s.

        Raises:
            ConfigError: the model has nothing that is normalised by speaker.
            SignalError: the files hold no voice or too little of it, or no face where only faces
                are judged.
        """
        models = (self,) if self.voice is None else (self, self.voice)
        by_voice = [m for m in models if m.normalises_by_speaker]
        by_face = self.looks_for_faces(Request())
        if not by_voice and not by_face and self.features is None:
            raise ConfigError(
                f"Bad --enrol: model {self.name} does not normalise by speaker; leave it out."
            )
        for model in by_voice:
            model._runner.enrol_voice(files, own=own)
        seen = by_face and self._runner.enrol_face(files, detector=self._face_detector(), own=own)
        if by_face and not by_voice and not seen:
            raise SignalError("Bad --enrol: its files show no face; give some that do.")
        if self.features is not None:
            rows = [read_features(f"{self.features}#{Path(p).stem}").values for p in files]
            self._scale = scale_of(np.concatenate(rows))

    @property
    def normalises_by_speaker(self) -> bool:
        """Whether the audio encoder takes statistics of an enrolled speaker."""
        audio = self.net.audio
        return audio is not None and audio.normaliser.mode == "speaker"

    @property
    def emotions(self) -> tuple[str, ...]:
        """See `ClipClassifier.emotions`."""
        voice = self.voice.net.emotions if self.voice is not None else ()
        return ordered({*self.net.emotions, *voice})

    # -- a clip's way: check, load, choose, predict ------------------------------------------

    def check(self, request: Request) -> None:
        """See `ClipClassifier.check`."""
        modality = request.modality
        if modality not in MODALITIES:
            raise ConfigError(unknown("modality", modality, MODALITIES))
        if modality in ("video", "both") and self.net.video is None:
            raise ConfigError(
                f"Bad modality {modality!r}: model {self.name} has no video branch; use auto or "
                "audio."
            )

    def load(self, path: str, request: Request) -> LoadedClip:
        """See `ClipClassifier.load`."""
        modality, progress = request.modality, request.progress
        faces = self.looks_for_faces(request)
        detector = self._face_detector() if faces else None
        if is_picture(path):
            stream_check(path, modality)(False, True)
            return load_picture(path, detector=detector)
        clip = load_clip(
            path,
            detector=detector,
            faces=faces,
            require=stream_check(path, modality),
            progress=None if progress is None else lambda now, end: progress(path, now, end),
            stopped=request.stopped,
        )
        clip.features = self.features_for(path, request)
        if modality == "auto" and (self.net.audio is not None or self.voice is not None):
            main = clip.faces.main if clip.faces is not None else None
            clip.judges_face = main is None or main.speaks is not False
        return clip

    def looks_for_faces(self, request: Request) -> bool:
        """Whether the model judges faces, and is to."""
        video = self.net.video
        by_table = isinstance(video, FeatureVideoEncoder)
        return video is not None and not by_table and request.modality != "audio"

    def features_for(self, path: str, request: Request) -> Features | None:
        """The row of a file in the table of features, or None where the model reads none."""
        by_table = isinstance(self.net.video, FeatureVideoEncoder)
        if self.features is None or not by_table or request.modality == "audio":
            return None
        try:
            row = read_features(f"{self.features}#{Path(path).stem}")
        except MediaError:
            if Path(str(self.features)).is_file():
                return None  # the table lacks this file: its voice is judged
            raise
        return row if self._scale is None else row.scaled(*self._scale)

    def _face_detector(self) -> FaceDetector:
        """The one detector of all files, loaded when it is first needed."""
        with self._lock:
            if self.detector is None:
                self.detector = MtcnnDetector()
            return self.detector

    def _choose(self, clip: LoadedClip, modality: Modality) -> Predictor:
        """The voice model, where there is one, for clips in which no face is judged."""
        if self.voice is None or modality in ("video", "both"):
            return self
        seen = clip.faces is not None and bool(clip.faces.tracks)
        judged = clip.features is not None or (seen and clip.judges_face)
        return self if judged and modality == "auto" else self.voice

    def predict(self, clips: Sequence[LoadedClip], request: Request) -> list[Prediction]:
        """See `ClipClassifier.predict`."""
        chosen = [self._choose(clip, request.modality) for clip in clips]
        predictions: dict[int, Prediction] = {}
        for model in dict.fromkeys(chosen):
            mine = [i for i, other in enumerate(chosen) if other is model]
            results = model._runner.predict([clips[i] for i in mine], modality=request.modality)
            predictions |= dict(zip(mine, results, strict=True))
        if request.faces == "all":  # by the face model, also where the voice model answers
            for i, clip in enumerate(clips):
                faces = self._runner.predict_faces(clip)
                predictions[i] = replace(predictions[i], faces=faces)
        return [predictions[i] for i in range(len(clips))]

    def _predict_memory(self, source: MemorySource, request: Request) -> Prediction:
        """Predict what is in memory already."""
        has_video = source.images is not None
        stream_check(source.path or "in memory", request.modality)(
            source.samples is not None, has_video
        )
        if request.modality == "auto" and not has_video:
            request = replace(request, modality="audio")  # no picture is missed where none is meant
        looked = has_video and self.looks_for_faces(request)
        with source.load(self._face_detector() if looked else None) as clip:
            prediction = self.predict([clip], request)[0]
        return replace(prediction, path=source.path)
