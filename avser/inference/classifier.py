"""Classification of many files in order: loaded ahead in threads, predicted in batches.

A file that fails gives a `Failure`, and the others are still classified.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal, TypeVar

from avser.errors import AvserError, MediaError, StorageError, os_error_sentence
from avser.extras import require
from avser.inference.runner import BATCH_CLIPS, WINDOW_STEPS
from avser.media.clip import LoadedClip
from avser.stores import local_copy
from avser.types import Prediction

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")

Modality = Literal["auto", "audio", "video", "both"]
FaceChoice = Literal["main", "all"]
Progress = Callable[[str, float, float | None], None]

MODALITIES = ("auto", "audio", "video", "both")

_AHEAD = 2 * BATCH_CLIPS  # clips that are loaded in advance, or queued for it
_PICTURE_WEIGHT = 4  # weight of a clip with faces in a batch, since loading it takes long

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
    """Settings of a prediction, the same for all clips of a job."""

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
        """Raise `ConfigError` if the model can't fulfil the request for any clip."""

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
        """Classify files in order; a bad one gives a `Failure`.

        Inputs are drawn a few dozen ahead, so that memory does not grow with their number.

        Args:
            paths: media files, pictures, addresses (``https://...``), or ``-`` for standard input.
            modality: streams to use; "auto" takes what there is, but not a still face beside a
                voice.
            faces: "all" also predicts every face alone.
            workers: loading threads.
            progress: called with path, seconds read and seconds in all while a file is read.

        Raises:
            ConfigError: the model can't do that for any clip.
            StorageError: a store can't be reached, or refuses the credential.
        """
        request = Request(modality=modality, faces=faces, progress=progress)
        self.check(request)
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="load") as pool:
            ahead: deque[tuple[str, Future[LoadedClip | Failure]]] = deque()
            inputs = map(str, paths)
            try:
                while True:
                    for path in islice(inputs, _AHEAD - len(ahead)):
                        ahead.append((path, pool.submit(self._load, path, request)))
                    if not ahead:
                        return
                    yield from self._predict_batch(_next_batch(ahead), request)
            finally:  # an interrupted job ends within a second, also while it reads a long film
                request.stopped.set()
                pool.shutdown(cancel_futures=True)
                for _, future in ahead:
                    clip = None if future.cancelled() or not future.done() else future.result()
                    if isinstance(clip, LoadedClip):
                        clip.close()

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

    def _load(self, path: str, request: Request) -> LoadedClip | Failure:
        try:
            if path != "-" and os.path.isfile(path):
                return self.load(path, request)
            with local_copy(path, stopped=request.stopped.is_set) as file:
                return self.load(str(file), request)
        except StorageError:  # no file of the store can be read, perhaps only for now
            raise
        except Exception as error:  # decoders raise errors of many kinds on damaged files
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
            for _, clip in clips:
                clip.close()

    def _predict_clips(
        self, clips: Sequence[tuple[str, LoadedClip]], request: Request
    ) -> list[Prediction | Failure]:
        """Predict clips together; if that fails, one by one, so that only the bad one fails."""
        if not clips:
            return []
        try:
            predictions = self.predict([clip for _, clip in clips], request)
        except Exception as error:
            if len(clips) == 1:
                return [failure_of(clips[0][0], error)]
            return [p for clip in clips for p in self._predict_clips([clip], request)]
        return [replace(p, path=path) for (path, _), p in zip(clips, predictions, strict=True)]


def wait_for(future: Future[T]) -> T:
    """Return the result of a future, waiting in intervals of half a second.

    Python handles Ctrl-C in the main thread, but the system may deliver it to another one, which
    does not end a wait without a timeout.
    """
    while not future.done():
        wait([future], timeout=0.5)
    return future.result()


def _next_batch(
    ahead: deque[tuple[str, Future[LoadedClip | Failure]]],
) -> list[tuple[str, LoadedClip | Failure]]:
    """Take clips for a batch; its size depends on the clips, not on how fast they are loaded."""
    batch: list[tuple[str, LoadedClip | Failure]] = []
    weight = 0
    while ahead and weight < BATCH_CLIPS:
        clip = wait_for(ahead[0][1])
        batch.append((ahead.popleft()[0], clip))
        if isinstance(clip, LoadedClip):
            long = clip.steps > WINDOW_STEPS
            weight += BATCH_CLIPS if long else _PICTURE_WEIGHT if clip.has_video else 1
    return batch


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
    if doing and isinstance(error, OSError) and error.errno:
        return Failure(path, MediaError(f"Failed {doing}: {os_error_sentence(error)}"))
    words = (error.strerror or "") if isinstance(error, OSError) else ""
    words = words or " ".join(f"{type(error).__name__}: {error}".split())
    cure = "check names and rights" if isinstance(error, OSError) else "see --debug"
    what = f"Failed {doing}" if doing else f"Can't read {path}"
    return Failure(path, MediaError(f"{what}: {words}; {cure}."))
