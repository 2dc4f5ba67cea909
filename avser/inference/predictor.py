"""Classification of media files and samples with released models.

A clip is loaded in one pass over the file, the model is chosen by its content, and it is predicted
in a batch with others. Long clips are predicted in windows, so that memory does not grow with
length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from avser.bundle import serialization as bundle
from avser.emotions import ordered
from avser.errors import ConfigError, MediaError, SignalError, unknown
from avser.inference.classifier import MODALITIES, ClipClassifier, Failure, Modality, Request
from avser.inference.runner import Runner
from avser.inference.sources import MemorySource, memory_source
from avser.media.clip import LoadedClip, check_streams, load_clip
from avser.media.faces import FaceDetector, MtcnnDetector
from avser.media.pictures import PICTURE_SUFFIXES, load_picture
from avser.media.visual_features import Features, read_features, scale_of
from avser.models.devices import bad_device, choose_device
from avser.models.encoders.faces import FaceEncoder
from avser.models.encoders.features import FeatureVideoEncoder
from avser.models.net import EmotionNet
from avser.stores import local_copy
from avser.types import Prediction
from avser.visualization.attribution import Explanation


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
        if isinstance(loaded.net.video, FaceEncoder):
            loaded.net.video.fold_norms()
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
        in_memory = [
            None if isinstance(s, (str, Path)) else memory_source(s, sample_rate=sample_rate)
            for s in sources
        ]
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

        Voices are normalised where the model does so by speaker. Faces are centred on the person's
        mean log probabilities and, where the face encoder has ``centred`` statistics, on the mean
        embedding; predictions mark both in `reason`.

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

    def centre_faces(self, *, running: bool = True) -> None:
        """Centre each face on its own mean so far, which later predictions mark in `reason`.

        What a face shows at rest is no emotion. After n steps with a face its mean log
        probabilities count n / (n + 39), so that a clip of a few seconds, whose mean is its
        emotion, stays nearly as it is (`avser.models.centring`).

        Raises:
            ConfigError: the model judges no faces, or a person was enrolled.
        """
        if not self.looks_for_faces(Request()):
            raise ConfigError(
                f"Bad --enrol running: model {self.name} judges no faces; leave it out."
            )
        if running and self._runner.centred:
            raise ConfigError("Bad running centre: a person is enrolled; use one of the two.")
        self._runner.centred_running = running

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

    # -- steps of a prediction: check, load, choose, predict ---------------------------------

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
        if Path(path).suffix.lower() in PICTURE_SUFFIXES:
            check_streams(path, modality, has_audio=False, has_video=True)
            return load_picture(path, detector=detector)
        clip = load_clip(
            path,
            detector=detector,
            faces=faces,
            modality=modality,
            progress=None if progress is None else partial(progress, path),
            stopped=request.stopped,
        )
        if self.features is not None:
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
        """The row of a file in the table of features, or None where the model reads none.

        Raises:
            ConfigError: its rows have another width than the model reads.
            MediaError: the table can't be read.
        """
        video = self.net.video
        if self.features is None or request.modality == "audio":
            return None
        if not isinstance(video, FeatureVideoEncoder):
            return None
        try:
            row = read_features(f"{self.features}#{Path(path).stem}")
        except MediaError:
            if Path(str(self.features)).is_file():
                return None  # the table lacks this file: its voice is judged
            raise
        if (width := row.values.shape[1]) != video.features:
            raise ConfigError(
                f"Bad --features {self.features}: its rows have {width} values and model "
                f"{self.name} reads {video.features}; give a table of the kind that it was "
                "trained on."
            )
        return row if self._scale is None else row.scaled(*self._scale)

    def _face_detector(self) -> FaceDetector:
        """Return the detector, which is loaded on first use."""
        with self._lock:
            if self.detector is None:
                self.detector = MtcnnDetector()
            return self.detector

    def _choose(self, clip: LoadedClip, modality: Modality) -> Predictor:
        """Return the voice model, if there is one, for clips without a face to judge."""
        if self.voice is None or modality in ("video", "both"):
            return self
        seen = clip.faces is not None and bool(clip.faces.tracks)
        judged = clip.features is not None or (seen and clip.judges_face)
        return self if judged and modality == "auto" else self.voice

    def predict(self, clips: Sequence[LoadedClip], request: Request) -> list[Prediction]:
        """See `ClipClassifier.predict`."""
        chosen = [self._choose(clip, request.modality) for clip in clips]
        every = request.faces == "all"
        predictions: dict[int, Prediction] = {}
        for model in dict.fromkeys(chosen):
            mine = [i for i, other in enumerate(chosen) if other is model]
            results = model._runner.predict(
                [clips[i] for i in mine], modality=request.modality, faces=every and model is self
            )
            predictions |= dict(zip(mine, results, strict=True))
        for i, model in enumerate(chosen):
            if every and model is not self:  # by the face model, also where the voice model answers
                faces = self._runner.predict_faces(clips[i])
                predictions[i] = replace(predictions[i], faces=faces)
        return [predictions[i] for i in range(len(clips))]

    def _predict_memory(self, source: MemorySource, request: Request) -> Prediction:
        """Predict samples and pictures in memory."""
        has_video = source.images is not None
        check_streams(
            source.path or "in memory",
            request.modality,
            has_audio=source.samples is not None,
            has_video=has_video,
        )
        if request.modality == "auto" and not has_video:
            request = replace(request, modality="audio")  # no picture is missed where none is meant
        looked = has_video and self.looks_for_faces(request)
        with source.load(self._face_detector() if looked else None) as clip:
            prediction = self.predict([clip], request)[0]
        return replace(prediction, path=source.path)
