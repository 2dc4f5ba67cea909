"""Recurrent encoder over frames, without convolutions."""

from collections.abc import Iterable
from typing import Literal, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.recurrent import MaskedRecurrence, State
from avser.models.encoders.steps import group_by_step, mean_weights, repeat_over_steps
from avser.models.frontends.base import Frontend, full_precision
from avser.models.frontends.conditioning import Conditioning
from avser.models.frontends.normaliser import NormaliserMode


class LstmEncoder(AudioEncoder):
    """LSTM layers over frames, pooled over each step or over the clip.

    Takes any hop. It is causal if its front end is, it has one direction and the span "step",
    and neither trimming nor normalisation looks ahead.

    Args:
        frontend, normalise, trim_db, conditioning: see `AudioEncoder`.
        width: of a linear layer on each frame before the LSTM; None = no such layer.
        hidden: width of one direction.
        layers: number of LSTM layers.
        bidirectional: also run from the last frame to the first.
        span: "step" pools each step's frames, "clip" all of the clip's.
        pool: "mean" over the valid frames, or "last": the state after the last of them (of the
            backward direction: after the first).
        dropout: on the input of every layer but the first.

    Raises:
        ConfigError: there is no layer.
    """

    def __init__(
        self,
        *,
        frontend: Frontend,
        normalise: NormaliserMode = "training",
        trim_db: float | None = 35.0,
        conditioning: Conditioning = "mean",
        width: int | None = None,
        hidden: int = 64,
        layers: int = 2,
        bidirectional: bool = True,
        span: Literal["step", "clip"] = "step",
        pool: Literal["mean", "last"] = "mean",
        dropout: float = 0.3,
    ) -> None:
        super().__init__(
            frontend=frontend, normalise=normalise, trim_db=trim_db, conditioning=conditioning
        )
        if layers < 1:
            raise ConfigError(f"Bad layers {layers} of an LSTM: legal is 1 or more.")
        self.span, self.pool, self.hidden = span, pool, hidden
        self.causal = frontend.causal and not (bidirectional or span == "clip" or self.looks_ahead)
        size = frontend.channels * frontend.bins
        self.project = None if width is None else nn.Linear(size, width)
        sizes = [width or size, *[hidden * (1 + bidirectional)] * (layers - 1)]
        self.layers = nn.ModuleList(
            MaskedRecurrence(s, hidden=hidden, bidirectional=bidirectional, hold=self.causal)
            for s in sizes
        )
        self.dropout = nn.Dropout(dropout)
        self.dim = hidden * (1 + bidirectional)

    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.encode`."""
        hop = self.frontend.hop
        with full_precision(features):
            x = self._projected(features)
            for index, layer in enumerate(self.layers):
                x = layer(self.dropout(x) if index else x, mask)
            if self.span == "clip":
                vector = self._pooled(x.unsqueeze(1), mask.unsqueeze(1)).squeeze(1)
                return repeat_over_steps(vector, mask, hop=hop)
            frames, valid = group_by_step(x, mask, hop=hop)
            return self._pooled(frames, valid), valid.any(dim=2)

    def network_state(self, size: int) -> State:
        """Of each layer, see `MaskedRecurrence.initial_state`."""
        layers = cast(Iterable[MaskedRecurrence], self.layers)
        return tuple(vector for layer in layers for vector in layer.initial_state(size))

    def encode_next(
        self, features: Tensor, mask: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """See `AudioEncoder.encode_next`."""
        with full_precision(features):
            x = self._projected(features)
            after: list[Tensor] = []
            for index, layer in enumerate(cast(Iterable[MaskedRecurrence], self.layers)):
                mine = state[2 * index : 2 * index + 2]
                x, new = layer.advance(self.dropout(x) if index else x, mask, mine)
                after += new
            frames, valid = group_by_step(x, mask, hop=self.frontend.hop)
            return self._pooled(frames, valid), valid.any(dim=2), tuple(after)

    def _projected(self, features: Tensor) -> Tensor:
        """Turn ``[B, C, M, F]`` into the first layer's input, ``[B, F, width]``."""
        x = rearrange(features.float(), "b c m f -> b f (c m)")
        return x if self.project is None else F.relu(self.project(x))

    def _pooled(self, frames: Tensor, valid: Tensor) -> Tensor:
        """Pool ``[B, T, n, D]`` over n where ``valid [B, T, n]``; 0 where none is valid."""
        if self.pool == "mean":
            return (frames * mean_weights(valid, frames)).sum(dim=2)
        one = valid.to(frames.dtype)
        before, after = one.cumsum(dim=2), one.flip(2).cumsum(dim=2).flip(2)
        last, first = one * (after == 1), one * (before == 1)
        forwards = (frames[..., : self.hidden] * last.unsqueeze(-1)).sum(dim=2)
        backwards = (frames[..., self.hidden :] * first.unsqueeze(-1)).sum(dim=2)
        return torch.cat([forwards, backwards], dim=-1)
