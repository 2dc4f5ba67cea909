"""Concatenation of both streams, and the base class of fusions with attention."""

from typing import Self

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.models.fusion.base import Fusion, only_valid


def at_least_one(name: str, value: int) -> int:
    """Return a size if it is legal.

    Raises:
        ConfigError: the size is not positive.
    """
    if value < 1:
        raise ConfigError(
            f"Bad {name} {value}: legal is 1 or more; set model.fusion.init_args.{name}."
        )
    return value


class ConcatFusion(Fusion):
    """Concatenates the streams of each step: ``[video ; audio]``, with zeros for an absent one.

    A subclass attends between projection and concatenation: it writes `layers` and `attend`.

    Args:
        width: each stream is projected to it first (linear, without bias, so that zeros stay
            zeros); None does not project.
        dropout: on the projected streams.
    """

    def __init__(self, *, width: int | None = 128, dropout: float = 0.0) -> None:
        super().__init__()
        self.width = None if width is None else at_least_one("width", width)
        self.dropout = nn.Dropout(dropout)

    def build(self, audio_dim: int, video_dim: int) -> Self:
        """See `Fusion.build`."""
        self.audio, audio_width = self._projection(audio_dim)
        self.video, video_width = self._projection(video_dim)
        self.dim = audio_width + video_width
        self.layers(audio_width, video_width)
        return self

    def _projection(self, dim: int) -> tuple[nn.Module, int]:
        if self.width is None:
            return nn.Identity(), dim
        return nn.Linear(dim, self.width, bias=False), self.width

    def layers(self, audio_dim: int, video_dim: int) -> None:
        """Make what `attend` needs, for streams of these widths; nothing here."""

    def join(self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor) -> Tensor:
        """See `Fusion.join`."""
        audio, video = self.dropout(self.audio(audio)), self.dropout(self.video(video))
        audio, video = self.attend(audio, audio_mask, video, video_mask)
        return torch.cat([only_valid(video, video_mask), only_valid(audio, audio_mask)], dim=-1)

    def attend(
        self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Turn ``audio [B, T, Da], video [B, T, Dv]`` into attended ones of the same shapes.

        Both are zero at their invalid steps and are made so again afterwards; here they stay as
        they are.
        """
        return audio, video
