"""Normalisation of features: by clip, by speaker, by training statistics, or running."""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

NormaliserMode = Literal["utterance", "clip", "running", "speaker", "training", "none"]


class Normaliser(nn.Module):
    """Subtracts a mean from features and scales them.

    Args:
        channels: C.
        bins: M.
        mode: over valid frames alone,
            ``utterance``: each clip's mean per bin, and its deviation per plane;
            ``clip``: each clip's mean over all bins (removes the level and keeps the spectral
            shape), and its deviation per plane;
            ``running``: ``clip`` over the frames so far, for streams; equal to ``clip`` at the last
            frame if ``prior`` is 0;
            ``training``: mean and deviation per bin of the training part, see `fit`;
            ``speaker``: mean and deviation per bin of the clip's speaker, see
            `AudioEncoder.reference`; ``clip`` for speakers without a reference;
            ``none``: no change.
        prior: number of frames with the training mean and deviation with which ``running`` starts,
            since the first frames alone give a poor estimate.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, channels: int, bins: int, mode: NormaliserMode, prior: int = 0) -> None:
        super().__init__()
        self.mode, self.prior = mode, prior
        self.register_buffer("mean", torch.zeros(channels, bins, 1))
        self.register_buffer("deviation", torch.ones(channels, bins, 1))

    def fit(self, total: Tensor, squares: Tensor, count: int) -> None:
        """Set training statistics from sums ``[C, M]`` over ``count`` valid frames."""
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=1e-6).sqrt()
        self.mean.copy_(mean[..., None])
        self.deviation.copy_(deviation[..., None])

    def forward(self, features: Tensor, mask: Tensor, reference: Tensor | None = None) -> Tensor:
        """Normalise ``features [B, C, M, F]`` under ``mask [B, F]``; invalid frames become 0.

        Args:
            features: of a front end.
            mask: valid frames.
            reference: ``[B, 2, C, M]``, NaN for clips without one; read in mode ``speaker`` alone.
        """
        raw = features
        valid = rearrange(mask, "b f -> b 1 1 f").to(features.dtype)
        if self.mode == "training":
            features = (features - self.mean) / self.deviation
        elif self.mode == "running":
            features, _ = self._so_far(features, valid, self.initial_state(features.shape[0]))
        elif self.mode in ("utterance", "clip", "speaker"):
            count = valid.sum(dim=-1, keepdim=True).clamp(min=1.0)
            mean = (features * valid).sum(dim=-1, keepdim=True) / count
            if self.mode != "utterance":
                mean = mean.mean(dim=2, keepdim=True)
            centred = features - mean
            variance = (centred.square() * valid).sum(dim=-1, keepdim=True) / count
            features = centred / (variance.mean(dim=2, keepdim=True) + 1e-5).sqrt()
        if self.mode == "speaker" and reference is not None and reference.shape[2]:
            mean, deviation = reference.unsqueeze(-1).unbind(dim=1)
            own = (raw - mean) / deviation
            features = torch.where(mean.isnan(), features, own)
        return features * valid

    def initial_state(self, size: int) -> tuple[Tensor, ...]:
        """State of ``size`` clips before their first frame; empty but for mode ``running``.

        Number of frames ``[B, 1, 1, 1]``, mean and sum of squared deviations ``[B, C, 1, 1]``, the
        latter two as differences from those of the prior.
        """
        if self.mode != "running":
            return ()
        zeros = self.mean.new_zeros(size, self.mean.shape[0], 1, 1)
        return zeros.new_zeros(size, 1, 1, 1), zeros, zeros.clone()

    def advance(
        self, features: Tensor, mask: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Normalise the next frames of a stream: what `forward` would, had all come at once.

        Args:
            features: ``[B, C, M, F]``, F of at least 1.
            mask: valid frames ``[B, F]``.
            state: of `initial_state`, or of the piece before.
        """
        if self.mode != "running":
            return self(features, mask), ()
        valid = rearrange(mask, "b f -> b 1 1 f").to(features.dtype)
        features, state = self._so_far(features, valid, state)
        return features * valid, state

    def _so_far(
        self, features: Tensor, valid: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Normalise each frame by the mean and deviation of the valid frames up to it.

        Sums of what each frame adds (Welford 1962): no term is negative, and none is the small
        difference of large squares.
        """
        number, shift, squares = state
        number = number + valid.cumsum(dim=-1)
        count = (number + self.prior).clamp(min=1.0)
        first, spread = self._prior_of_planes()
        middle = first + shift
        level = features.mean(dim=2, keepdim=True)
        mean = middle + ((level - middle) * valid).cumsum(dim=-1) / count
        before = torch.cat([middle, mean[..., :-1]], dim=-1)
        shape = (features - level).square().mean(dim=2, keepdim=True)
        added = shape + (level - before) * (level - mean)
        squares = squares + (added * valid).cumsum(dim=-1)
        after = (number[..., -1:], mean[..., -1:] - first, squares[..., -1:])
        variance = (spread + squares) / count
        return (features - mean) / (variance + 1e-5).sqrt(), after

    def _prior_of_planes(self) -> tuple[Tensor, Tensor]:
        """Mean and sum of squared deviations of the prior's frames, ``[1, C, 1, 1]``."""
        if not self.prior:
            zeros = torch.zeros_like(self.mean[None, :, :1])
            return zeros, zeros
        first = self.mean.mean(dim=1, keepdim=True)
        variance = self.deviation.square() + (self.mean - first).square()
        return first[None], self.prior * variance.mean(dim=1, keepdim=True)[None]
