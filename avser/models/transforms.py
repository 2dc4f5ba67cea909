"""Functions that a caller applies between the parts of a network, passed in with each batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class FeatureExtractor(Protocol):
    """The part of an audio encoder in front of its normalisation."""

    def raw_features(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``[B, C, M, F]`` and the frame mask ``[B, F]`` of ``[B, S], [B]``."""

    def frame_count(self, samples: int) -> int:
        """Number of frames of so many samples."""


@dataclass(frozen=True, kw_only=True)
class Transforms:
    """Functions of the caller that a network applies to a batch.

    Attributes:
        features: replaces `AudioEncoder.raw_features`; called as ``(encoder, waveform, lengths)``.
        spectrogram: called in training mode only, as ``(features [B, C, M, F], mask [B, F])``,
            between normalisation and network; returns both.
        audio_images: called in training mode only, where an audio encoder makes one image of each
            clip, as ``(images [B, C, H, W] float32 from 0 to 1, clip [B])``.
        faces: called in training mode only, before normalisation, as ``(images [n, C, H, W] float32
            from 0 to 1, clip [n] int64)``; ``clip`` is the row of each image, in rising order.
        modality_dropout: share of clips in which a run of steps of one stream, or all of it, is
            hidden from the fusion in training mode.
        face_centre: called with the face's log probabilities ``[B, T, K]`` and ``mask [B, T]``;
            returns what is subtracted from each step's.
    """

    features: Callable[[FeatureExtractor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    spectrogram: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    audio_images: Callable[[Tensor, Tensor], Tensor] | None = None
    faces: Callable[[Tensor, Tensor], Tensor] | None = None
    modality_dropout: float = 0.0
    face_centre: Callable[[Tensor, Tensor], Tensor] | None = None


#: No change at all.
IDENTITY = Transforms()
