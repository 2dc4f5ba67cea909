"""Log-mel spectrogram."""

import torch
import torchaudio
from torch import Tensor

from avser.models.frontends.base import Frontend, PowerSpectrum, check_hop
from avser.types import SAMPLE_RATE


class LogMel(Frontend):
    """Natural log of mel-band power (HTK mel scale, triangular filters).

    Args:
        bins: mel bands, M.
        window: Hann window in samples (512 = 32 ms).
        hop: samples between frames; divides 8,192.
        n_fft: transform length.
        fmin_hz: lower edge of the lowest band.
        fmax_hz: upper edge of the highest band.
        causal: windows end with their hop instead of being centred on it.
    """

    channels = 1
    filters: Tensor

    def __init__(
        self,
        *,
        bins: int = 64,
        window: int = 512,
        hop: int = 256,
        n_fft: int = 1024,
        fmin_hz: float = 50.0,
        fmax_hz: float = 8000.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.bins = bins
        self.hop = check_hop(hop)
        self.causal = causal
        self.spectrum = PowerSpectrum(
            window=window,
            hop=hop,
            n_fft=n_fft,
            first_bin=0,
            bin_count=n_fft // 2 + 1,
            align="end" if causal else "centre",
        )
        filters = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, fmin_hz, fmax_hz, bins, SAMPLE_RATE
        )
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]`` into ``[B, 1, M, F]``."""
        mel = self.spectrum.reduced(waveform, lambda power: power @ self.filters)
        # 1e-7: about the power of a 16-bit sample's last bit under this window
        return torch.log(mel + 1e-7).transpose(1, 2).unsqueeze(1)
