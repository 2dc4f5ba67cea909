"""Loading of a clip in one pass over the file: its sound and faces, in bounded memory.

The sound of a short clip is kept in memory, that of a long one in a temporary file. Face crops are
kept in a file too, because the main person is known only at the end.

This module also makes the remarks of `Prediction.reason` about a clip. Loads no torch.
"""

from __future__ import annotations

import tempfile
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO, TYPE_CHECKING, Self

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from avser.errors import SignalError
from avser.media.faces import (
    DETECT_HEIGHT,
    FaceCollector,
    FaceDetector,
    Faces,
    FaceTrack,
    SoundLevels,
    sample_times,
)
from avser.media.reader import MediaReader, open_media, scaled
from avser.media.samples import NO_SAMPLES
from avser.types import SAMPLE_RATE, STEP_S, STEP_SAMPLES, FaceBox, TimelineEntry, steps_of

if TYPE_CHECKING:
    from avser.media.visual_features import Features

Samples = NDArray[np.float32]

_IN_MEMORY = 120 * STEP_SAMPLES  # a minute
_AHEAD = 8  # decoded frames that wait for face detection


_OFTEN = 0.5  # share of the main person's frames from which another face is mentioned
_LARGE = 0.25  # share of the area of the main person's face from which another is mentioned

#: Remark on a face that is visible but not used.
STILL_PICTURE = (
    "the face is still while somebody speaks, so that the voice alone is judged; --modality both "
    "adds the face"
)

#: Remark on predictions with a face that is centred on an enrolled person.
CENTRED = "the face is centred on the enrolled person"

#: Remark on predictions with a face that is centred on its own mean so far.
CENTRED_RUNNING = "the face is centred on its own mean so far (half of it after 20 s)"

#: Remarks on predictions of models that centre a face's embeddings, in these two ways.
EMBEDDINGS_CENTRED = "the face's embeddings are centred on the enrolled person"
EMBEDDINGS_CENTRED_RUNNING = (
    "the face's embeddings are centred on their own mean so far (half of it after 20 s)"
)

CENTRING_MARKS = (CENTRED, CENTRED_RUNNING, EMBEDDINGS_CENTRED, EMBEDDINGS_CENTRED_RUNNING)

#: Beginning of the remark that label and timeline disagree.
DISAGREEMENT = "the whole clip is judged"


@dataclass(frozen=True)
class ClipSegment:
    """A stretch of a clip, as an item of a batch.

    ``samples [S]``, ``faces [T, N, 3, H, W]`` uint8 with ``face_mask [T, N]``, and
    ``features [T, F]``.
    """

    samples: Samples
    faces: NDArray[np.uint8] | None = None
    face_mask: NDArray[np.bool_] | None = None
    features: NDArray[np.float32] | None = None

    @property
    def steps(self) -> int:
        """T, at least 1."""
        seen = max(len(x) for x in (self.face_mask, self.features, ()) if x is not None)
        return max(1, seen, steps_of(len(self.samples)))


class AudioBuffer:
    """Samples that follow one another; beyond a minute they wait in a temporary file.

    Attributes:
        count: samples so far.
        gain: factor of all samples when they are read; they are cut at -1 and 1.
    """

    _LEVEL_SAMPLES = 512  # 32 ms: shorter than a syllable, longer than a voice's period

    def __init__(self) -> None:
        self.count = 0
        self.gain = 1.0
        self._parts: list[Samples] = []
        self._file: IO[bytes] | None = None
        self._rest = NO_SAMPLES  # of the part whose level is not known yet
        self._powers: list[NDArray[np.float64]] = []

    @property
    def levels(self) -> SoundLevels | None:
        """Levels in parts of 32 ms; None without sound."""
        if not self._powers:
            return None
        powers = np.concatenate(self._powers) * self.gain**2
        return SoundLevels(10 * np.log10(powers + 1e-12), self._LEVEL_SAMPLES / SAMPLE_RATE)

    def add(self, samples: Samples) -> None:
        """Append ``[n]`` samples."""
        self.count += len(samples)
        self._rest = np.concatenate([self._rest, samples])
        whole = len(self._rest) // self._LEVEL_SAMPLES * self._LEVEL_SAMPLES
        if whole:
            parts = rearrange(self._rest[:whole], "(n s) -> n s", s=self._LEVEL_SAMPLES)
            self._powers.append(np.square(parts, dtype=np.float64).mean(axis=1))
            self._rest = self._rest[whole:]
        if self._file is None and self.count > _IN_MEMORY:
            self._file = tempfile.TemporaryFile(prefix="avser-sound-")
            for part in self._parts:
                self._file.write(part.tobytes())
            self._parts = []
        if self._file is None:
            self._parts.append(samples)
        else:
            self._file.write(np.ascontiguousarray(samples, np.float32).tobytes())

    def cut(self, start: int, count: int) -> Samples:
        """Samples from ``start``, at most ``count``."""
        if self._file is None:
            self._parts = [np.concatenate(self._parts)] if self._parts else [NO_SAMPLES]
            return scaled(self._parts[0][start : start + count], self.gain)
        self._file.seek(4 * start)
        return scaled(np.frombuffer(self._file.read(4 * count), np.float32), self.gain)

    def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.close()


class LoadedClip:
    """Sound and faces of one file; close it, or use it in ``with``.

    Attributes:
        duration_s: length in seconds.
        has_audio, has_video: whether the file has such a stream.
        faces: of the people in it, or None where none were looked for.
        features: precomputed video features, or None; set by the caller.
        resources: closed with the clip.
        judges_face: whether the main person's face is used for the clip's prediction.
        warnings: faults of the file and their corrections, in words.
    """

    def __init__(self) -> None:
        self.sound = AudioBuffer()
        self.duration_s = 0.0
        self.has_audio = self.has_video = False
        self.faces: Faces | None = None
        self.features: Features | None = None
        self.judges_face = True
        self.warnings: tuple[str, ...] = ()
        self.resources = ExitStack()
        self.resources.callback(self.sound.close)

    @property
    def steps(self) -> int:
        """Steps of the longer stream, at least 1."""
        looked = (self.faces is not None and self.judges_face) or self.features is not None
        seen = steps_of(round(self.duration_s * SAMPLE_RATE)) if looked else 0
        return max(1, seen, steps_of(self.sound.count))

    def cut(self, start: int, steps: int) -> ClipSegment:
        """The steps from ``start``, with the main person's face."""
        samples = self.sound.cut(start * STEP_SAMPLES, steps * STEP_SAMPLES)
        main = self.faces.main if self.faces is not None and self.judges_face else None
        faces, mask = (None, None) if main is None else main.grid(start, steps)
        features = None if self.features is None else self.features.on_grid(start, steps)
        return ClipSegment(samples, faces, mask, features)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove temporary files; calling it again does nothing."""
        self.resources.close()


def face_segment(track: FaceTrack, start: int, steps: int) -> ClipSegment:
    """A person's face in the steps from ``start``, without sound."""
    faces, mask = track.grid(start, steps)
    return ClipSegment(NO_SAMPLES, faces, mask)


def check_streams(path: str | Path, modality: str, *, has_audio: bool, has_video: bool) -> None:
    """Refuse a clip that lacks a stream asked for by name.

    Raises:
        SignalError: it does.
    """
    for stream, there in (("audio", has_audio), ("video", has_video)):
        if modality in (stream, "both") and not there:
            raise SignalError(f"Bad clip {path}: it has no {stream} stream; ask for modality auto.")


def load_clip(
    path: str | Path,
    *,
    detector: FaceDetector | None = None,
    faces: bool = False,
    modality: str = "auto",
    start_s: float | None = None,
    end_s: float | None = None,
    progress: Callable[[float, float | None], None] | None = None,
    stopped: Event | None = None,
) -> LoadedClip:
    """Read a file once.

    Args:
        path: media file.
        detector: of faces; None is MTCNN.
        faces: whether to look for faces.
        modality: streams that the file must have, checked before anything is decoded; "auto" takes
            what there is.
        start_s: beginning of the part to read, in seconds; None is the file's own.
        end_s: its end, in seconds; None is the file's own.
        progress: called with seconds read and seconds in all (None where unknown).
        stopped: set by another thread to stop the reading.

    Raises:
        MediaError: the file can't be read.
        SignalError: it lacks a stream of the modality.
        CancelledError: it was stopped; nothing is left behind.
    """
    clip = LoadedClip()
    try:
        with open_media(
            path,
            frame_times=sample_times() if faces else None,
            frame_height=DETECT_HEIGHT,
            start_s=start_s,
            end_s=end_s,
            block_s=STEP_S,  # faces are looked for as soon as a step is decoded
        ) as reader:
            clip.has_audio, clip.has_video = reader.has_audio, reader.has_video
            check_streams(path, modality, has_audio=reader.has_audio, has_video=reader.has_video)
            collector = None
            if faces and reader.has_video:
                collector = FaceCollector(detector=detector)
                clip.resources.callback(collector.close)
            _read(reader, clip, collector, progress=progress, stopped=stopped)
    except BaseException:
        clip.close()
        raise
    return clip


def _read(
    reader: MediaReader,
    clip: LoadedClip,
    collector: FaceCollector | None,
    *,
    progress: Callable[[float, float | None], None] | None,
    stopped: Event | None,
) -> None:
    """Decode all blocks; faces are looked for in a thread of its own meanwhile."""
    frames: deque[Future[None]] = deque()  # that wait, in their order
    thread = ThreadPoolExecutor(1, thread_name_prefix="faces")
    try:
        for block in reader:
            clip.sound.add(block.samples)
            for frame in block.frames:
                if collector is not None:
                    frames.append(thread.submit(collector.add, frame))
                if len(frames) > _AHEAD:  # decoding waits, so that memory is bounded
                    frames.popleft().result()
            if stopped is not None and stopped.is_set():
                raise CancelledError(f"{reader.path} is not read on.")
            if progress is not None:
                progress(reader.duration_s, reader.stated_s)
        clip.sound.gain, clip.warnings = reader.gain, reader.warnings
        length_s = reader.duration_s or reader.stated_s or 0.0  # nothing decoded: as stated
        clip.duration_s = max(length_s, clip.sound.count / SAMPLE_RATE)
        if collector is not None:
            while frames:
                frames.popleft().result()
            clip.faces = collector.finish(clip.sound.levels)
    finally:
        thread.shutdown(cancel_futures=True)


def face_boxes(track: FaceTrack) -> tuple[FaceBox, ...]:
    """Boxes of a person's face over time."""
    rows = zip(track.times_s, track.boxes, track.scores, strict=True)
    return tuple(
        FaceBox(time_s=float(t), x=float(x), y=float(y), w=float(w), h=float(h), score=float(score))
        for t, (x, y, w, h), score in rows
    )


def reason_of(
    clip: LoadedClip,
    *,
    branches: set[str],
    used: set[str],
    modality: str,
    label: str | None,
    timeline: Sequence[TimelineEntry],
    marks: Sequence[str] = (),
) -> str | None:
    """Return all remarks on a prediction in one text, or None.

    Args:
        clip: that was predicted.
        branches: of the model: "audio", "video".
        used: streams that were used; without any there was no signal.
        modality: that was asked for.
        label: of the clip.
        timeline: of its steps.
        marks: further sentences about the model's settings.
    """
    if not used:
        return "no_signal"
    parts = []
    if "audio" in branches and "audio" not in used and modality != "video":
        parts.append("the sound is silent" if clip.sound.count else "the file has no sound")
    if modality == "audio":
        pass
    elif clip.faces is not None:  # also where the voice model is used, since there was no face
        parts += [clip.faces.reason] if clip.faces.reason else []
    elif "video" in branches and clip.features is None:
        parts.append(
            "the model's video branch reads precomputed features; give --features"
            if clip.has_video
            else "the file has no picture"
        )
    parts += [*_other_faces(clip), *marks, *disagreement(label, timeline), *clip.warnings]
    return "; ".join(parts) or None


def _other_faces(clip: LoadedClip) -> list[str]:
    """Remarks on a face that is not used, and on other faces as frequent and large."""
    if clip.faces is None or not clip.faces.tracks:
        return []
    if not clip.judges_face:
        return [STILL_PICTURE]
    main, *tracks = clip.faces.tracks
    # the share of the picture that each covers
    own, *areas = (float(np.median(t.boxes[:, 2] * t.boxes[:, 3])) for t in clip.faces.tracks)
    others = [
        track
        for track, area in zip(tracks, areas, strict=True)
        if len(track.times_s) >= _OFTEN * len(main.times_s) and area >= _LARGE * own
    ]
    if not others:
        return []
    which = "the one whose lips move with the sound" if main.speaks else "the main one"
    still = f" ({_count_still(others)})" if any(t.still for t in others) else ""
    return [
        f"{len(others) + 1} faces are seen{still}, and {which} is judged; --faces all judges each"
    ]


def _count_still(tracks: Sequence[FaceTrack]) -> str:
    count = sum(track.still for track in tracks)
    return "one of them still, as a photograph" if count == 1 else f"{count} of them still"


def disagreement(label: str | None, timeline: Sequence[TimelineEntry]) -> list[str]:
    """Name the label of most steps where the clip has another."""
    counts = Counter(entry.label for entry in timeline if entry.label is not None)
    if label is None or not counts:
        return []
    other, most = counts.most_common(1)[0]
    if counts[label] == most:
        return []
    return [f"{DISAGREEMENT} {label}, {most} of its {counts.total()} steps alone {other}"]
