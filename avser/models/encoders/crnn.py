"""Convolutional recurrent encoder of spectrograms."""

import math
from collections.abc import Iterable
from typing import Literal, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.norms import MaskedBatchNorm, MaskedGroupNorm, NormKind
from avser.models.encoders.recurrent import MaskedRecurrence, State
from avser.models.frontends.base import Frontend, full_precision
from avser.models.frontends.conditioning import Conditioning
from avser.models.frontends.normaliser import NormaliserMode

_NORMS: dict[NormKind, type[nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "masked_batch": MaskedBatchNorm,
    "group": MaskedGroupNorm,
}


class ConvBlock(nn.Module):
    """Convolution, norm, ReLU and max-pooling that keep invalid frames at zero.

    Args:
        inputs, outputs: channels.
        kernel: side of the square kernel.
        pool: (frequency, time) pooling.
        stride: pool by striding the convolution instead (cheap first layer).
        causal: pad time on the left only.
        norm: "batch"; "masked_batch", over the valid frames of a training batch; or "group", over
            each clip's own.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        pool: tuple[int, int],
        stride: bool,
        causal: bool,
        norm: NormKind = "batch",
    ) -> None:
        super().__init__()
        half = kernel // 2
        self.inputs, self.before = inputs, kernel - 1
        self.pad = (kernel - 1 if causal else 0, 0)
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            padding=(half, 0 if causal else half),
            stride=pool if stride else 1,
            bias=False,
        )
        self.norm = _NORMS[norm](outputs)
        self.pool = None if stride else pool
        self.rows, self.time = pool

    def forward(
        self, x: Tensor, mask: Tensor, *, before: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Turn ``[B, C, M, F]`` and ``[B, F]`` into pooled ones.

        A pooled frame is valid if any of its frames is.

        Args:
            x: frames.
            mask: valid frames.
            before: of a stream, the frames before, ``[B, C, M, kernel - 1]``; None pads with 0.
        """
        if before is not None:
            x = torch.cat([before, x], dim=-1)
        elif self.pad != (0, 0):
            x = F.pad(x, self.pad)
        pooled = rearrange(mask, "b (f p) -> b f p", p=self.time).any(dim=-1)
        keep = mask if self.pool is not None else pooled
        x = self.conv(x)
        masked = isinstance(self.norm, (MaskedGroupNorm, MaskedBatchNorm))
        x = F.relu(self.norm(x, keep) if masked else self.norm(x))
        x = x * rearrange(keep, "b f -> b 1 1 f").to(x.dtype)
        if self.pool is not None:
            x = F.max_pool2d(x, self.pool)
        return x, pooled


class CrnnEncoder(AudioEncoder):
    """Convolution blocks over the spectrogram, a recurrence over frames, a mean over each step.

    Args:
        frontend, normalise, trim_db, gate_dbfs, conditioning: see `AudioEncoder`.
        channels: of each block.
        pools: (frequency, time) pooling of each block; the first block strides.
        width: of each frame before the recurrence.
        hidden: of one direction of the recurrence.
        cell: "lstm" or "gru".
        causal: no step depends on later sound: causal convolutions, forward recurrence only.
            Needs a causal front end, ``trim_db: null`` and ``training``, ``running`` or ``none``
            for a norm.
        dropout: on frames before the recurrence (heads have their own).
        norm: "batch"; "masked_batch", whose training statistics leave padding and gated frames
            out; or "group", which keeps no statistics of the training clips (federated training)
            and needs the whole clip.
    """

    def __init__(
        self,
        *,
        frontend: Frontend,
        normalise: NormaliserMode = "clip",
        trim_db: float | None = 35.0,
        gate_dbfs: float | None = None,
        conditioning: Conditioning = "mean",
        channels: tuple[int, ...] = (24, 48, 80, 128),
        pools: tuple[tuple[int, int], ...] = ((2, 2), (2, 2), (2, 1), (2, 1)),
        width: int = 128,
        hidden: int = 96,
        cell: Literal["lstm", "gru"] = "lstm",
        causal: bool = False,
        dropout: float = 0.3,
        norm: NormKind = "batch",
    ) -> None:
        super().__init__(
            frontend=frontend,
            normalise=normalise,
            trim_db=trim_db,
            gate_dbfs=gate_dbfs,
            conditioning=conditioning,
        )
        per_step = frontend.frames_per_step
        self._check(pools, channels, causal, per_step)
        if causal and norm == "group":
            raise ConfigError(
                "Bad norm 'group' of a causal encoder: it uses the whole clip; use 'batch'."
            )
        self.causal = causal
        blocks, inputs = [], frontend.channels
        for i, (outputs, pool) in enumerate(zip(channels, pools, strict=True)):
            blocks.append(
                ConvBlock(
                    inputs,
                    outputs,
                    kernel=3 if i else 5,
                    pool=pool,
                    stride=i == 0,
                    causal=causal,
                    norm=norm,
                )
            )
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        rows = frontend.bins // math.prod(p[0] for p in pools)
        self.frames_per_step = per_step // math.prod(p[1] for p in pools)
        self.project = nn.Linear(inputs * rows, width)
        self.recurrence = MaskedRecurrence(
            width, hidden=hidden, cell=cell, bidirectional=not causal, hold=causal
        )
        self.dropout = nn.Dropout(dropout)
        self.dim = self.recurrence.dim

    def _check(
        self,
        pools: tuple[tuple[int, int], ...],
        channels: tuple[int, ...],
        causal: bool,
        per_step: int,
    ) -> None:
        if len(pools) != len(channels):
            raise ConfigError(
                f"Bad pools: {len(pools)} given for {len(channels)} channels; give one a block."
            )
        rows, frames = math.prod(p[0] for p in pools), math.prod(p[1] for p in pools)
        front = self.frontend
        if front.bins % rows or per_step % frames:
            raise ConfigError(
                f"Bad pools: they divide {rows} rows and {frames} frames, but the front end has "
                f"{front.bins} rows and {per_step} frames a step; use divisors."
            )
        if causal and (not front.causal or self.looks_ahead):
            raise ConfigError(
                "Bad causal encoder: its front end, trimming or normalisation uses later sound; "
                "set frontend.init_args.causal: true, trim_db: null and normalise: training."
            )

    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.encode`."""
        x = features.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x, mask = block(x, mask)
        with full_precision(x):
            x = self.dropout(rearrange(x.float(), "b c m f -> b f (c m)"))
            x = self.recurrence(F.relu(self.project(x)), mask)
            return self._over_steps(x, mask)

    def network_state(self, size: int) -> State:
        """Frames before each block, ``[B, C, M, kernel - 1]``, and the recurrence's vectors."""
        rows, frames = self.frontend.bins, []
        for block in cast(Iterable[ConvBlock], self.blocks):
            frames.append(self.project.weight.new_zeros(size, block.inputs, rows, block.before))
            rows //= block.rows
        return *frames, *self.recurrence.initial_state(size)

    def encode_next(
        self, features: Tensor, mask: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """See `AudioEncoder.encode_next`."""
        x, after = features, []
        blocks = cast(Iterable[ConvBlock], self.blocks)
        for block, before in zip(blocks, state, strict=False):
            after.append(torch.cat([before, x], dim=-1)[..., -block.before :])
            x, mask = block(x, mask, before=before)
        with full_precision(x):
            recurrent = state[len(self.blocks) :]
            x = self.dropout(rearrange(x.float(), "b c m f -> b f (c m)"))
            x, recurrent = self.recurrence.advance(F.relu(self.project(x)), mask, recurrent)
            return *self._over_steps(x, mask), (*after, *recurrent)

    def _over_steps(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of each step's valid frames of ``[B, F, D]``."""
        steps = rearrange(x, "b (t f) d -> b t f d", f=self.frames_per_step)
        valid = rearrange(mask, "b (t f) -> b t f 1", f=self.frames_per_step).to(x.dtype)
        mean = (steps * valid).sum(dim=2) / valid.sum(dim=2).clamp(min=1.0)
        return mean, valid.squeeze(-1).any(dim=2)
