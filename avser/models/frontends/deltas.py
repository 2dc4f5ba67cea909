"""Rates of change of any front end's features, as further channels."""

import torch
from einops import rearrange
from scipy.signal import savgol_coeffs
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.frontends.base import Frontend, all_frames


class Deltas(Frontend):
    """Another front end's features with their first, or first and second, derivative in time.

    The n-th derivative is that of the polynomial of degree n fitted to ``width`` frames around
    each (Savitzky-Golay, per frame and not per second): librosa's ``delta``; of the first order
    it is also HTK's regression formula. A clip's first and last valid frames are repeated
    beyond its edges, so that neither padding nor trimmed silence looks like a change.

    Args:
        frontend: of C channels; this one has C (order + 1): features, then each derivative.
        order: 1 or 2.
        width: frames of the fit, odd; 9 frames of 16 ms are 144 ms. Half of them come later:
            this front end is not causal.

    Raises:
        ConfigError: order or width is out of its range.
    """

    kernel: Tensor

    def __init__(self, frontend: Frontend, *, order: int = 1, width: int = 9) -> None:
        super().__init__()
        if order not in (1, 2):
            raise ConfigError(f"Bad order {order} of deltas: legal is 1 or 2; for none, leave out.")
        if width < 3 or width % 2 == 0:
            raise ConfigError(f"Bad width {width} of deltas: legal is an odd number from 3 on.")
        self.frontend = frontend
        self.channels = frontend.channels * (order + 1)
        self.bins, self.hop = frontend.bins, frontend.hop
        fits = [savgol_coeffs(width, n, deriv=n, use="dot") for n in range(1, order + 1)]
        kernel = torch.stack([torch.from_numpy(fit).float() for fit in fits])
        self.register_buffer("kernel", kernel.unsqueeze(1), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]``, all of it valid, into ``[B, C, M, F]``."""
        return self.forward_masked(waveform, all_frames(waveform, self.hop))

    def forward_masked(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """See `Frontend.forward_masked`."""
        x = self.frontend.forward_masked(waveform, mask)
        size, planes, _, frames = x.shape
        half = self.kernel.shape[-1] // 2
        index = torch.arange(frames, device=mask.device)
        first = torch.where(mask, index, frames - 1).amin(dim=1, keepdim=True)
        last = torch.where(mask, index, 0).amax(dim=1, keepdim=True)
        index = torch.arange(-half, frames + half, device=mask.device)
        index = torch.minimum(torch.maximum(index, first), last)
        around = x.gather(3, index[:, None, None].expand(-1, planes, self.bins, -1))
        rows = rearrange(around, "b c m f -> (b c m) 1 f")
        change = F.conv1d(rows, self.kernel)
        change = rearrange(change, "(b c m) o f -> b (o c) m f", b=size, c=planes)
        return torch.cat([x, change], dim=1)
