"""Batch and group norm over valid frames alone."""

import copy
from itertools import pairwise
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


class MaskedGroupNorm(nn.Module):
    """Group norm over the valid frames of each clip; it keeps no running statistics.

    Running statistics of batch norm are biased if batches hold one speaker each, as in federated
    training, which uses this norm.
    Source: Wu & He, "Group Normalization", ECCV 2018; the mask is added here.

    Args:
        channels: C.
        groups: largest number of groups; the next smaller divisor of C is taken.
    """

    def __init__(self, channels: int, *, groups: int = 8) -> None:
        super().__init__()
        self.groups = next(g for g in range(min(groups, channels), 0, -1) if channels % g == 0)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise ``[B, C, M, F]`` by the frames of ``mask [B, F]``."""
        valid = x * rearrange(mask, "b f -> b 1 1 f").to(x.dtype)
        count = mask.sum(dim=1).clamp(min=1).to(torch.float32) * x.shape[2]
        # sums of each channel first: the large tensor is read twice and never regrouped
        mean = self._of_groups(valid.sum(dim=(2, 3), dtype=torch.float32), count)
        square = self._of_groups((valid * valid).sum(dim=(2, 3), dtype=torch.float32), count)
        scale = self.weight * (square - mean * mean).clamp(min=0.0).add(1e-5).rsqrt()
        shift = self.bias - mean * scale
        scale, shift = (rearrange(v, "b c -> b c 1 1").to(x.dtype) for v in (scale, shift))
        return x * scale + shift

    def _of_groups(self, total: Tensor, count: Tensor) -> Tensor:
        """Mean over each channel's group, for each channel: ``[B, C]`` sums, ``[B]`` counts."""
        grouped = rearrange(total, "b (g c) -> b g c", g=self.groups)
        mean = grouped.mean(dim=2, keepdim=True) / rearrange(count, "b -> b 1 1")
        return rearrange(mean.expand_as(grouped), "b g c -> b (g c)")


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the valid frames of a training batch.

    Plain batch norm includes padding and gated frames, which are zeros, so its statistics depend on
    how clips are batched. In evaluation both are the same; their weights are interchangeable.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``[B, C, M, F]``; in training by the frames of ``mask [B, F]``."""
        if mask is None or not self.training:
            return super().forward(x)
        rows = rearrange(x, "b c m f -> b m f c")  # as channels_last keeps them
        keep = mask[:, None].expand(rows.shape[:3])
        valid, out = rows[keep], torch.zeros_like(rows)  # [n, C]
        if len(valid) > 1:  # of a single value there is no deviation
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
            kept = self.running_mean, self.running_var
            out[keep] = F.batch_norm(
                *(valid, *kept, self.weight, self.bias), training=True, eps=self.eps
            ).to(out.dtype)
        return rearrange(out, "b m f c -> b c m f")


NormKind = Literal["batch", "masked_batch", "group"]


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Copy a network in evaluation mode with each batch norm inside the convolution before it.

    The one before is the one registered just before it; whether it also runs before it is for the
    caller to check.
    """
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        children = list(parent.named_children())
        for (name, conv), (norm_name, norm) in pairwise(children):
            if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
                continue
            if norm.running_mean is not None and norm.num_features == conv.out_channels:
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                # what is inside timm's norms, such as their activation, stays
                setattr(parent, norm_name, nn.Sequential(*norm.children()))
    return network
