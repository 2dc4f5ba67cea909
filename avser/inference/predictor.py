"""Classifies media files and samples with a released model.

One pass over a file gives its sound and the main person's face; both go to one network, which
says what it used. Short clips are answered in batches while the next ones are decoded; longer ones
in windows, so that memory does not grow with length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray

from avser.bundle import serialization as bundle
from avser.errors import AvserError, ConfigError, MediaError, unknown
from avser.inference.runner import BATCH_CLIPS, Runner, of_samples, prediction
from avser.inference.windows import WINDOW_STEPS, WindowSpan
from avser.media.clip import LoadedClip, load_clip, requirement, wait_for
from avser.media.faces import FaceDetector, MtcnnDetector
from avser.media.reader import probe
from avser.media.samples import condition_samples
from avser.media.visual_features import Features, read_features, scale_of
from avser.models.encoders.features import FeatureVideoEncoder
from avser.models.net import EmotionNet
from avser.types import Prediction

Modality = Literal["auto", "audio", "video", "both"]
FaceChoice = Literal["main", "all"]
Samples = NDArray[np.float32]
Progress = Callable[[str, float, float | None], None]

MODALITIES = ("auto", "audio", "video", "both")


@dataclass(frozen=True)
class Failure:
    """A file that could not be classified, and why."""

    path: str
    error: AvserError

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object of a failed input."""
        return {
            "path": self.path,
            "error": {"type": type(self.error).__name__, "message": str(self.error)},
        }


class Predictor:
    """Classifies clips with one model.

    Args:
        net: the network.
        name: of the model, given in every answer.
        device: "auto" takes a GPU if there is one.
        detector: of faces; None is MTCNN, loaded when the first picture is looked at.
        features: table of precomputed picture features with a row a file, named by its stem, for
            models whose face half reads those.
        voice: a model for inputs without a picture; None is this one.
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
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
            self.net = net.eval().to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"Bad device {device!r}: {str(error).splitlines()[0]}; use auto or cpu."
            ) from error
        self.name, self.detector, self.features, self.voice = name, detector, features, voice
        self._runner = Runner(self.net, self.device)
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

        None takes two: the audio-visual default for inputs with a picture, and the most accurate
        voice model for the others.

        Raises:
            BundleError: there is no such model, or it is damaged or unsafe.
        """
        loaded = bundle.load(bundle.default() if model is None else model, allow=allow)
        voice = None
        if model is None and loaded.net.video is not None:
            sound = bundle.load(bundle.DEFAULT_MODEL)
            voice = cls(sound.net, name=sound.name, device=device)
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
        source: str | Path | NDArray[np.floating],
        *,
        sample_rate: int | None = None,
        modality: Modality = "auto",
    ) -> Prediction: ...

    @overload
    def __call__(
        self,
        source: list[Any],
        *,
        sample_rate: int | None = None,
        modality: Modality = "auto",
    ) -> list[Prediction]: ...

    def __call__(
        self,
        source: str | Path | NDArray[np.floating] | list[Any],
        *,
        sample_rate: int | None = None,
        modality: Modality = "auto",
    ) -> Prediction | list[Prediction]:
        """Classify a file, samples, or a list of either.

        Args:
            source: path; ``[S]`` or ``[channels, S]`` samples in -1..1; or a list.
            sample_rate: of samples, in Hz.
            modality: which streams to use; "auto" uses what there is.

        Raises:
            AvserError: a clip can't be read or lacks the stream that was asked for.
        """
        sources = source if isinstance(source, list) else [source]
        arrays = [s for s in sources if isinstance(s, np.ndarray)]
        waves = [condition_samples(s, sample_rate=sample_rate)[0] for s in arrays]
        paths = [s for s in sources if isinstance(s, (str, Path))]
        if len(waves) + len(paths) != len(sources):
            raise ConfigError("Bad source: expected paths or arrays of samples.")
        self._check(modality)
        of_arrays = iter([self._of_array(w) for w in waves])
        of_files = self.classify(paths, modality=modality)
        found: list[Prediction] = []
        for item in sources:
            answer = next(of_arrays) if isinstance(item, np.ndarray) else next(of_files)
            if isinstance(answer, Failure):
                raise answer.error
            found.append(answer)
        return found if isinstance(source, list) else found[0]

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

        Args:
            paths: media files.
            modality: which streams to use.
            faces: "all" also says what every face says alone.
            workers: decoding threads.
            progress: called with path, seconds read and seconds in all while a file is read.
        """
        self._check(modality)
        work = _Work(modality=modality, faces=faces, progress=progress)
        with ThreadPoolExecutor(max(1, workers)) as pool:
            ahead: list[tuple[str, Future[LoadedClip | Failure]]] = []
            try:
                for path in paths:
                    ahead.append((str(path), pool.submit(self._read, str(path), work)))
                    if len(ahead) == 2 * BATCH_CLIPS:
                        yield from self._answer(ahead[:BATCH_CLIPS], work)
                        del ahead[:BATCH_CLIPS]
                yield from self._answer(ahead, work)
            finally:  # interrupted in the middle of an hour's film, it ends within a second
                work.stopped.set()
                pool.shutdown(cancel_futures=True)

    def enrol(self, files: Sequence[str | Path]) -> None:
        """Normalise by a speaker's own clips, whose emotions need not be known.

        Args:
            files: of one speaker; with a table of features, their rows count too.

        Raises:
            ConfigError: the model has nothing that is normalised by speaker.
            SignalError: the files hold no voice.
        """
        audio = self.net.audio
        by_voice = audio is not None and audio.normaliser.mode == "speaker"
        if not by_voice and self.features is None:
            raise ConfigError(
                f"Bad --enrol: model {self.name} does not normalise by speaker; leave it out."
            )
        if by_voice:
            self._runner.enrol(files)
        if self.features is not None:
            rows = [read_features(f"{self.features}#{Path(p).stem}").values for p in files]
            self._scale = scale_of(np.concatenate(rows))

    # -- reading ---------------------------------------------------------------------------

    def _check(self, modality: str) -> None:
        if modality not in MODALITIES:
            raise ConfigError(unknown("modality", modality, MODALITIES))
        if modality in ("video", "both") and self.net.video is None:
            raise ConfigError(
                f"Bad modality {modality!r}: model {self.name} has no face half; use auto or audio."
            )

    def _chosen(self, clip: str | LoadedClip, modality: Modality) -> Predictor:
        """The voice model where there is one and no picture is to be judged."""
        if self.voice is None or modality != "auto":
            return (self.voice or self) if modality == "audio" else self
        return self if (probe(clip) if isinstance(clip, str) else clip).has_video else self.voice

    def _read(self, path: str, work: _Work) -> LoadedClip | Failure:
        modality = work.modality
        try:
            net = self._chosen(path, modality).net
            by_table = isinstance(net.video, FeatureVideoEncoder)
            looks = net.video is not None and not by_table and modality != "audio"
            told = work.progress
            found = load_clip(
                path,
                detector=self._finder() if looks else None,
                faces=looks,
                require=requirement(path, modality),
                progress=None if told is None else lambda now, end: told(path, now, end),
                stopped=work.stopped,
            )
            if by_table and self.features is not None and modality != "audio":
                found.features = self._row(path)
            return found
        except AvserError as error:
            return Failure(path, error)

    def _finder(self) -> FaceDetector:
        """The one detector of all files; loaded when the first picture is looked at."""
        with self._lock:
            if self.detector is None:
                self.detector = MtcnnDetector()
            return self.detector

    def _row(self, path: str) -> Features | None:
        try:
            row = read_features(f"{self.features}#{Path(path).stem}")
        except MediaError:
            if Path(str(self.features)).is_file():
                return None  # the table lacks this file: its voice answers
            raise
        return row if self._scale is None else row.scaled(*self._scale)

    # -- answering -------------------------------------------------------------------------

    def _answer(
        self, ahead: Sequence[tuple[str, Future[LoadedClip | Failure]]], work: _Work
    ) -> Iterator[Prediction | Failure]:
        read = [(path, wait_for(future)) for path, future in ahead]
        short = {
            path: r for path, r in read if isinstance(r, LoadedClip) and r.steps <= WINDOW_STEPS
        }
        answered = self._together(short, work.modality)
        for path, result in read:
            if isinstance(result, Failure):
                yield result
                continue
            with result:
                chosen = self._chosen(result, work.modality)
                pieces = answered.get(path) or chosen._pieces(result, work.modality)
                yield chosen._prediction(result, pieces, path=path, work=work)

    def _together(
        self, short: Mapping[str, LoadedClip], modality: Modality
    ) -> dict[str, list[WindowSpan]]:
        """Answer short clips in batches, each with the model that it needs."""
        done: dict[str, list[WindowSpan]] = {}
        for model in [self] if self.voice is None else [self, self.voice]:
            mine = [path for path in short if self._chosen(short[path], modality) is model]
            cuts = [short[path].cut(0, short[path].steps) for path in mine]
            pieces = model._runner.run(cuts, head=model._head(modality))
            done |= {path: [piece] for path, piece in zip(mine, pieces, strict=True)}
        return done

    def _head(self, modality: Modality) -> str | None:
        """The head that answers alone where a stream was asked for by name."""
        several = self.net.fusion is not None
        return modality if several and modality in ("audio", "video") else None

    def _pieces(self, intake: LoadedClip, modality: Modality) -> list[WindowSpan]:
        return self._runner.whole(intake, head=self._head(modality))

    def _of_array(self, wave: Samples) -> Prediction:
        chosen = self.voice or self
        with of_samples(wave) as intake:
            pieces = chosen._pieces(intake, "auto")
            return chosen._prediction(intake, pieces, path=None, work=_Work(modality="audio"))

    def _prediction(
        self, intake: LoadedClip, pieces: Sequence[WindowSpan], *, path: str | None, work: _Work
    ) -> Prediction:
        faces = None
        if work.faces == "all":
            tracks = intake.faces.tracks if intake.faces is not None else ()
            faces = tuple(self._runner.face(track, intake) for track in tracks)
        return prediction(
            self.net,
            intake,
            pieces,
            model=self.name,
            path=path,
            modality=work.modality,
            faces=faces,
        )


@dataclass(frozen=True)
class _Work:
    """What is asked of every file."""

    modality: Modality
    faces: FaceChoice = "main"
    progress: Progress | None = None
    stopped: Event = field(default_factory=Event)
