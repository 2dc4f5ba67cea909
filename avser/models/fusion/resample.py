"""Resampling of the valid steps of clips to a grid of fixed length, and back."""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def overlap(mask: Tensor, points: int) -> Tensor:
    """Interpolation weights of each valid step at each point of a fixed grid, ``[B, L, T]``.

    A clip's n valid steps are stretched over L points; both divide the same interval of time.
    Weights fall linearly with distance and reach zero at one point or one step, whichever is
    longer. That is linear interpolation for n < L, the identity for n = L, and an average that uses
    every step for n > L.

    Args:
        mask: ``[B, T]`` bool; invalid steps are not part of the grid, so padding never leaks.
        points: L.
    """
    count = mask.sum(dim=1).clamp(min=1).float()
    place = rearrange(mask.float().cumsum(dim=1) - 1, "b t -> b 1 t")
    stretch = rearrange(count / points, "b -> b 1 1")  # steps a point
    grid = rearrange(torch.arange(points, device=mask.device), "l -> 1 l 1")
    distance = (place - ((grid + 0.5) * stretch - 0.5)).abs()
    return F.relu(1 - distance / stretch.clamp(min=1.0)) * rearrange(mask, "b t -> b 1 t")


def onto_grid(x: Tensor, weights: Tensor) -> Tensor:
    """Turn ``x [B, T, D]`` into ``[B, L, D]``: means by ``weights [B, L, T]``, 0 without any."""
    return weights @ x / weights.sum(dim=2, keepdim=True).clamp(min=1e-6)


def off_grid(x: Tensor, weights: Tensor) -> Tensor:
    """Turn ``x [B, L, D]`` into ``[B, T, D]``: the way back of `onto_grid`."""
    return onto_grid(x, rearrange(weights, "b l t -> b t l"))
