"""Precomputed vectors as the video stream."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.models.encoders.base import VideoEncoder
from avser.models.transforms import IDENTITY, Transforms
from avser.types import Batch


class FeatureVideoEncoder(VideoEncoder):
    """A small network over precomputed vectors, such as OpenFace action units.

    A vector per clip is repeated over its steps. Steps without a face are NaN in the batch, and
    invalid in the output.

    Args:
        features: F, width of the vectors.
        dim: width of a step's vector; None returns the normalised vectors without any layer, for
            a baseline as the head.
        layers: hidden layers, each of width ``dim``.
        normalise: by mean and deviation of the training part, or not at all.
        dropout: after each layer.
        noise: deviation of Gaussian noise on normalised vectors in training.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        features: int,
        dim: int | None = 128,
        layers: int = 1,
        normalise: Literal["training", "none"] = "training",
        dropout: float = 0.3,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.features, self.noise = dim or features, features, noise
        self.needs_statistics = normalise == "training"
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.layers = nn.Sequential()
        if dim is not None:
            widths = [features, *[dim] * layers]
            for a, b in pairwise(widths):
                self.layers.append(
                    nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.GELU(), nn.Dropout(dropout))
                )
            self.layers.append(nn.Linear(widths[-1], dim))

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """See `VideoEncoder.fit_statistics`: every clip counts once, however long."""
        means = [b["video_features"].double().nanmean(dim=1) for b in batches]
        clips = torch.cat(means)
        clips = clips[~clips.isnan().any(dim=1)]
        self._check(clips.shape[1])
        self.mean.copy_(clips.mean(dim=0))
        self.deviation.copy_(clips.std(dim=0).clamp(min=1e-3))

    def _check(self, width: int) -> None:
        if width != self.features:
            raise ConfigError(
                f"Bad features width {self.features}: the data's vectors have {width}; set "
                f"model.video.init_args.features to {width}."
            )

    def forward(self, batch: Batch, *, transforms: Transforms = IDENTITY) -> tuple[Tensor, Tensor]:
        """See `VideoEncoder.forward`."""
        x = batch["video_features"]
        if not x.shape[2]:  # a batch of sound alone
            x = x.new_full((*x.shape[:2], self.features), torch.nan)
        self._check(x.shape[2])
        mask = ~x.isnan().any(dim=-1)
        x = (x.nan_to_num() - self.mean) / self.deviation
        if self.training and self.noise > 0:
            x = x + self.noise * torch.randn_like(x)
        y: Tensor = self.layers(x)
        return y * mask.unsqueeze(-1).to(y.dtype), mask
