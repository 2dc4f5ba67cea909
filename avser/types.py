"""Shared types (clip, corpus, batch, prediction), the step grid, and the shape letters.

B clips · S audio samples · T steps · N faces per step · C H W image · F frames or features ·
M frequency bins · D width · K classes. Masks are bool, True = valid.
Units stand in names: ``step_s``, ``hop_s``, ``sample_rate`` (Hz), ``fps``, ``fmax_hz``.

Both streams live on one grid of steps of 0.512 s, the 512 ms chunks of "Convoluting Feelings".
A clip of S samples has ``ceil(S / STEP_SAMPLES)`` steps; a partial last step is zero-padded and
valid.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar, NotRequired, TypedDict

from avser.stores import as_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

SAMPLE_RATE = 16_000  # Hz; voices have little power above 8 kHz
STEP_SAMPLES = 8_192  # 0.512 s: a power of two, so that power-of-two hops divide it
STEP_S = STEP_SAMPLES / SAMPLE_RATE
SILENCE_DBFS = -60.0  # steps with a lower RMS are shown as silent


def steps_of(samples: int) -> int:
    """Number of steps of a clip of that many samples: ``ceil(samples / STEP_SAMPLES)``."""
    return -(-samples // STEP_SAMPLES)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One row of a corpus: paths, speaker and label of a recording. Nothing is decoded.

    Attributes:
        path: media file with the sound (or sound and picture); a `Path`, or an
            `avser.stores.Address` that `avser.stores.local_copy` opens.
        clip_id: unique within the corpus, stable across machines.
        emotion: word of `avser.emotions.VOCABULARY`, or None if unlabelled.
        speaker: speaker, prefixed with the corpus (``ravdess/01``); "" if unknown.
        corpus: short name of the corpus.
        video: media file with the picture, or None.
        features: precomputed video features (see `avser.media.visual_features`), or None.
        start_s, end_s: part of the file that is the clip; None is the file's beginning or end.
        part: part that the corpus's owner assigns (train, validation, test), or None.
        sex: "female", "male" or "".
        sentence: id of the spoken sentence, for splits inside a speaker; "" if unknown.
        attributes: further columns of the corpus (intensity, repetition, votes, ...).
    """

    path: PurePath
    clip_id: str
    emotion: str | None
    speaker: str
    corpus: str
    video: PurePath | None = None
    features: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    part: str | None = None
    sex: str = ""
    sentence: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


class Corpus(ABC):
    """Reader of one corpus: layout, file names, labels, licence. Decodes nothing.

    A subclass is in a file of its own, ``datamodules/corpora/<name>.py``, and is found by name.

    Args:
        root: folder of the corpus, or its address (``s3://bucket/ravdess``); None takes
            ``$AVSER_DATA/<name>``, or ``data/<name>``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    licence: ClassVar[str]
    url: ClassVar[str]  # where to get the corpus from its owners
    citation: ClassVar[str]
    languages: tuple[str, ...] = ()  # spoken in it, with the accent; () where unknown
    merge: Mapping[str, str] = {}  # emotion to emotion, unless a configuration says otherwise
    label_target: str = "acted"  # or: voice, face, both (crowd votes); stated in every table

    def __init__(self, root: str | Path | None = None) -> None:
        self.notes: list[str] = []  # remarks about the files, filled by `clips`
        base = as_path(os.environ.get("AVSER_DATA", "data"))
        self.root = as_path(root) if root is not None else base / self.name

    @abstractmethod
    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id``.

        Raises:
            CorpusError: the root is missing or holds no file of the layout; the sentence says
                what was looked for and where to get the corpus.
        """


class ImageCorpus(Corpus):
    """A corpus of labelled face pictures; each row is a clip of one picture.

    If the person is unknown, ``speaker`` is "", and the unit of splits and intervals is the
    picture. ``path`` is the file of the picture; it may contain several.
    """

    label_target = "face"

    @abstractmethod
    def pictures(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.uint8] | str]:
        """Decode pictures of `clips`, in the order given.

        Yields:
            ``[H, W]`` grey or ``[H, W, 3]`` RGB; for a damaged picture the reason, in one sentence.
        """


class Batch(TypedDict):
    """Input of a network. An absent modality is an empty or all-False entry, never missing."""

    waveform: Tensor  # [B, S] float32, 16 kHz, -1..1
    lengths: Tensor  # [B] int64, valid samples; 0 = no sound
    audio_features: Tensor  # [B, C, M, F] a frozen audio encoder's prepared output; C = 0: none
    audio_mask: Tensor  # [B, F] bool, valid frames of audio_features
    faces: Tensor  # [B, T, N, C, H, W] uint8
    face_mask: Tensor  # [B, T, N] bool
    video_features: Tensor  # [B, T, F] float32; NaN in steps without a face; F = 0 where unused
    speaker_statistics: Tensor  # [B, 2, C, M] mean, deviation of the speaker's frames; C = 0: none
    label: Tensor  # [B] int64; -1 = unlabelled
    teacher_features: NotRequired[Tensor]  # [B, C, M, F] of the teacher's encoder, prepared
    teacher_mask: NotRequired[Tensor]  # [B, F] bool, valid frames of teacher_features
    label_shares: NotRequired[Tensor]  # [B, K] of people's votes, where training is to use them
    clip_id: list[str]


def audio_batch(
    waveform: Tensor,
    lengths: Tensor,
    *,
    label: Tensor | None = None,
    clip_id: list[str] | None = None,
) -> Batch:
    """A batch of sound alone from ``waveform [B, S]`` and ``lengths [B]``, all on one device."""
    import torch

    size, steps, device = len(waveform), max(1, steps_of(waveform.shape[1])), waveform.device
    return Batch(
        waveform=waveform,
        lengths=lengths,
        audio_features=torch.zeros(size, 0, 0, 0, device=device),
        audio_mask=torch.zeros(size, 0, dtype=torch.bool, device=device),
        faces=torch.zeros(size, steps, 0, 3, 0, 0, dtype=torch.uint8, device=device),
        face_mask=torch.zeros(size, steps, 0, dtype=torch.bool, device=device),
        video_features=torch.zeros(size, steps, 0, device=device),
        speaker_statistics=torch.zeros(size, 2, 0, 0, device=device),
        label=torch.full((size,), -1, device=device) if label is None else label,
        clip_id=[""] * size if clip_id is None else clip_id,
    )


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """Prediction of one step; ``label`` is None for a step without signal."""

    start_s: float
    end_s: float
    label: str | None
    probabilities: Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class FaceBox:
    """Face box in one sampled frame, in shares of the picture's width and height."""

    time_s: float
    x: float
    y: float
    w: float
    h: float
    score: float


@dataclass(frozen=True, kw_only=True)
class FaceResult:
    """Prediction for one person by the face alone.

    ``speaks``: whether the lips move with the sound; None if unknown.
    """

    face_id: int
    label: str | None
    probabilities: Mapping[str, float] | None
    timeline: tuple[TimelineEntry, ...]
    boxes: tuple[FaceBox, ...]
    speaks: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Prediction for one clip.

    Attributes:
        label: most probable emotion; None without a signal.
        probabilities: emotion to probability, summing to 1; None without a signal.
        modalities: streams that were used: "audio", "video".
        reason: remarks, such as why a stream was not used, or "no_signal"; None without remarks.
        duration_s: length of the clip in seconds.
        timeline: one entry per step.
        model: name of the model.
        path: the input's path, or None for an array.
        boxes: of the main person's face.
        faces: prediction for each face alone, main person first; None if not requested.
    """

    label: str | None
    probabilities: Mapping[str, float] | None
    modalities: tuple[str, ...]
    reason: str | None
    duration_s: float
    timeline: tuple[TimelineEntry, ...]
    model: str
    path: str | None = None
    boxes: tuple[FaceBox, ...] = ()
    faces: tuple[FaceResult, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that the command line and the web page give."""
        result: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "probabilities": dict(self.probabilities) if self.probabilities else None,
            "modalities": list(self.modalities),
            "reason": self.reason,
            "duration_s": round(self.duration_s, 3),
            "timeline": _plain(self.timeline),
            "model": self.model,
        }
        if self.faces is not None:
            result["faces"] = [
                {
                    "face_id": f.face_id,
                    "speaks": f.speaks,
                    "label": f.label,
                    "probabilities": dict(f.probabilities) if f.probabilities else None,
                    "timeline": _plain(f.timeline),
                    "boxes": [{k: round(v, 4) for k, v in vars(b).items()} for b in f.boxes],
                }
                for f in self.faces
            ]
        return result


def _plain(timeline: tuple[TimelineEntry, ...]) -> list[dict[str, Any]]:
    return [
        {
            "start_s": round(e.start_s, 3),
            "end_s": round(e.end_s, 3),
            "label": e.label,
            "probabilities": dict(e.probabilities) if e.probabilities else None,
        }
        for e in timeline
    ]
