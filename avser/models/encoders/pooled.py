"""Mean and deviation in time of a front end's features: the vectors of classical models."""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from avser.errors import ConfigError
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.steps import group_by_step, mean_weights, repeat_over_steps
from avser.models.frontends.base import Frontend
from avser.models.frontends.conditioning import Conditioning
from avser.models.frontends.normaliser import NormaliserMode


class PooledEncoder(AudioEncoder):
    """The mean in time of any front end's features, and their deviation if wanted. No weights.

    Args:
        frontend, normalise, trim_db, conditioning: see `AudioEncoder`. A norm by clip would make
            every mean 0.
        statistics: ``mean``, or ``mean`` and ``deviation``, over the valid frames.
        span: "clip" pools a clip's frames, "step" each step's.

    Raises:
        ConfigError: the statistics are empty or named twice.
    """

    def __init__(
        self,
        *,
        frontend: Frontend,
        normalise: NormaliserMode = "none",
        trim_db: float | None = 35.0,
        conditioning: Conditioning = "mean",
        statistics: tuple[Literal["mean", "deviation"], ...] = ("mean",),
        span: Literal["step", "clip"] = "clip",
    ) -> None:
        super().__init__(
            frontend=frontend, normalise=normalise, trim_db=trim_db, conditioning=conditioning
        )
        if not statistics or len(set(statistics)) < len(statistics):
            raise ConfigError(
                f"Bad statistics {list(statistics)}: legal are mean, deviation, or both."
            )
        self.statistics = tuple(statistics)
        self.span = span
        self.causal = span == "step" and frontend.causal and not self.looks_ahead
        self.dim = frontend.channels * frontend.bins * len(statistics)

    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.encode`."""
        hop = self.frontend.hop
        x = rearrange(features, "b c m f -> b f (c m)")
        if self.span == "clip":
            return repeat_over_steps(
                self._pooled(x.unsqueeze(1), mask.unsqueeze(1))[:, 0], mask, hop=hop
            )
        frames, valid = group_by_step(x, mask, hop=hop)
        return self._pooled(frames, valid), valid.any(dim=2)

    def _pooled(self, frames: Tensor, valid: Tensor) -> Tensor:
        """Pool ``[B, T, n, D]`` over n where ``valid [B, T, n]``; 0 where none is valid."""
        weights = mean_weights(valid, frames)
        mean = (frames * weights).sum(dim=2)
        variance = ((frames - mean.unsqueeze(2)).square() * weights).sum(dim=2)
        pooled = {"mean": mean, "deviation": variance.sqrt()}
        return torch.cat([pooled[name] for name in self.statistics], dim=-1)
