"""Fully connected layers over the frames of a whole clip."""

from itertools import pairwise
from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.steps import crop_or_pad, frames_of, repeat_over_steps
from avser.models.frontends.base import Frontend
from avser.models.frontends.conditioning import Conditioning
from avser.models.frontends.normaliser import NormaliserMode


class DenseEncoder(AudioEncoder):
    """Fully connected layers with ReLU and dropout over all values of a clip's frames.

    Each clip is cut or filled to the same duration (see `TimmAudioEncoder`); one vector is
    repeated over its valid steps.

    Args:
        frontend, normalise, trim_db, conditioning: see `AudioEncoder`.
        clip_s: duration that is used, in seconds.
        widths: of the layers.
        dropout: after each layer.

    Raises:
        ConfigError: there is no layer.
    """

    span: Literal["step", "clip"] = "clip"

    def __init__(
        self,
        *,
        frontend: Frontend,
        normalise: NormaliserMode = "training",
        trim_db: float | None = 35.0,
        conditioning: Conditioning = "mean",
        clip_s: float = 3.0,
        widths: tuple[int, ...] = (256, 128),
        dropout: float = 0.3,
    ) -> None:
        super().__init__(
            frontend=frontend, normalise=normalise, trim_db=trim_db, conditioning=conditioning
        )
        if not widths or min(widths) < 1:
            raise ConfigError(f"Bad widths {list(widths)}: give one positive width a layer.")
        self.frames = frames_of(clip_s, frontend.hop)
        sizes = [frontend.channels * frontend.bins * self.frames, *widths]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout))
                for a, b in pairwise(sizes)
            )
        )
        self.dim = widths[-1]

    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.encode`."""
        x = rearrange(crop_or_pad(features, mask, self.frames), "b c m f -> b (c m f)")
        return repeat_over_steps(self.layers(x), mask, hop=self.frontend.hop)
