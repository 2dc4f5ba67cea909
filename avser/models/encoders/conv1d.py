"""Convolutions in time over the frames of a whole clip."""

from typing import Literal

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.steps import crop_or_pad, frames_of, repeat_over_steps
from avser.models.frontends.base import Frontend
from avser.models.frontends.conditioning import Conditioning
from avser.models.frontends.normaliser import NormaliserMode


class Conv1dEncoder(AudioEncoder):
    """Convolution, ReLU, dropout and max-pooling in time, layer by layer, then all values.

    Each clip is cut or filled to the same duration (see `TimmAudioEncoder`); one vector is
    repeated over its valid steps. Two layers are EmoNet's network, whose sizes its paper leaves
    open.

    Args:
        frontend, normalise, trim_db, conditioning: see `AudioEncoder`.
        clip_s: duration that is used, in seconds.
        channels: filters of each layer.
        kernel: frames of a filter, odd.
        pools: frames that each layer's pooling joins.
        dropout: after each layer's ReLU.

    Raises:
        ConfigError: the lists differ in length, the kernel is even, or no frame is left.
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
        channels: tuple[int, ...] = (64, 128),
        kernel: int = 5,
        pools: tuple[int, ...] = (4, 4),
        dropout: float = 0.2,
    ) -> None:
        super().__init__(
            frontend=frontend, normalise=normalise, trim_db=trim_db, conditioning=conditioning
        )
        if not channels or len(channels) != len(pools) or kernel % 2 == 0:
            raise ConfigError(
                f"Bad channels {list(channels)}, pools {list(pools)} or kernel {kernel}: give as "
                "many pools as channels, at least one, and an odd kernel."
            )
        self.frames = left = frames_of(clip_s, frontend.hop)
        inputs = frontend.channels * frontend.bins
        layers = []
        for outputs, pool in zip(channels, pools, strict=True):
            layers.append(nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2))
            inputs, left = outputs, left // pool
        if left < 1:
            raise ConfigError(
                f"Bad pools {list(pools)}: of {self.frames} frames none is left; pool fewer, or "
                "raise clip_s."
            )
        self.layers, self.pools = nn.ModuleList(layers), tuple(pools)
        self.dropout = nn.Dropout(dropout)
        self.dim = inputs * left

    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.encode`."""
        x = rearrange(crop_or_pad(features, mask, self.frames), "b c m f -> b (c m) f")
        for layer, pool in zip(self.layers, self.pools, strict=True):
            x = F.max_pool1d(self.dropout(F.relu(layer(x))), pool)
        return repeat_over_steps(rearrange(x, "b c f -> b (c f)"), mask, hop=self.frontend.hop)
