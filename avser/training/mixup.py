"""Mixup between the clips of a batch."""

import torch
from torch import Tensor


class Mixup:
    """Partner and share of each clip of a batch (Zhang et al. 2018).

    Args:
        alpha: parameter of the Beta distribution of the shares; 0 = off.

    Attributes:
        partner: ``[B]`` int64, index of the clip that each one is mixed with; None = not mixed.
        share: ``[B]``, share of the clip itself, at least one half.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.partner: Tensor | None = None
        self.share: Tensor | None = None

    def draw(self, size: int, like: Tensor, *, present: Tensor | None = None) -> None:
        """Draw partners and shares for a batch.

        Args:
            size: clips of the batch.
            like: a tensor of the device.
            present: ``[B]``, clips that are mixed among each other; None mixes all.
        """
        self.partner = self.share = None
        if not self.alpha or size < 2:
            return
        share = torch.distributions.Beta(self.alpha, self.alpha).sample((size,)).to(like.device)
        self.share = torch.maximum(share, 1 - share)
        index = torch.arange(size, device=like.device)
        chosen = index if present is None else index[present]
        self.partner = index.clone()
        self.partner[chosen] = chosen[torch.randperm(len(chosen), device=like.device)]

    def mix(self, x: Tensor) -> Tensor:
        """Mix rows ``[B, ...]``, such as spectrograms or soft labels."""
        if self.partner is None or self.share is None:
            return x
        share = self.share.view(-1, *[1] * (x.ndim - 1))
        return share * x + (1 - share) * x[self.partner]
