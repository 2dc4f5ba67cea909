"""Base class of fusions."""

from abc import ABC, abstractmethod
from typing import Self

from torch import Tensor, nn

from avser.models.frontends.base import full_precision


def only_valid(x: Tensor, mask: Tensor) -> Tensor:
    """Set the invalid steps of ``x [B, T, D]`` under ``mask [B, T]`` to zero.

    Filled, not multiplied: NaN and inf of invalid steps must not propagate.
    """
    return x.masked_fill(~mask.unsqueeze(-1), 0.0)


class StreamFusion(nn.Module, ABC):
    """Joins the two streams: their vectors (`Fusion`), or their predictions (`LateFusion`)."""


class Fusion(StreamFusion):
    """Joins the two streams on the step grid.

    A configuration gives a fusion's own settings; `build` then sizes it for the two encoders, so
    that no configuration repeats their widths. A subclass writes `build` and `join`.

    A step is valid if either stream is. The invalid one contributes zeros and gets no attention.
    For a clip without one of the streams the result is finite but unused: the net takes the other
    stream's own head. Computes in float32 also under autocast.

    Attributes:
        dim: D, width of the joint vector; set by `build`.
    """

    dim: int

    @abstractmethod
    def build(self, audio_dim: int, video_dim: int) -> Self:
        """Make the layers for streams of these widths, set `dim`, and return self."""

    def forward(
        self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Join the streams.

        Args:
            audio: ``[B, T, Da]``.
            audio_mask: ``[B, T]`` bool, steps with sound.
            video: ``[B, T, Dv]``.
            video_mask: ``[B, T]`` bool, steps with a face.

        Returns:
            ``x [B, T, D]``, zero at invalid steps, and ``mask [B, T]``, the union of both masks.
        """
        mask = audio_mask | video_mask
        with full_precision(audio):
            audio, video = only_valid(audio, audio_mask), only_valid(video, video_mask)
            x = self.join(audio.float(), audio_mask, video.float(), video_mask)
        return only_valid(x, mask), mask

    @abstractmethod
    def join(self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor) -> Tensor:
        """Join ``audio [B, T, Da]`` and ``video [B, T, Dv]`` into ``x [B, T, D]``.

        Both are zero at their invalid steps. The output depends on both streams; T is any number;
        padding a clip with steps that are invalid in both streams changes nothing at the others.
        """
