"""What a fusion is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Fusion(nn.Module, ABC):
    """Joins the two streams on the step grid.

    Attributes:
        dim: D, width of the joint vector.
    """

    dim: int

    @abstractmethod
    def forward(
        self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Join ``audio [B, T, Da]`` and ``video [B, T, Dv]`` into ``x [B, T, D], mask [B, T]``.

        The output depends on both streams; any T; invalid steps are not data.
        """
