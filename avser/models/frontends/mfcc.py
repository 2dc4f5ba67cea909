"""Mel-frequency cepstral coefficients."""

import math

import torch
import torchaudio
from torch import Tensor

from avser.errors import ConfigError
from avser.models.frontends.base import Frontend, PowerSpectrum, check_hop
from avser.types import SAMPLE_RATE

#: Least band power. Rounding to 16 bits leaves about -90 dB in a band of this filter bank.
FLOOR = 1e-10


class Mfcc(Frontend):
    """MFCC as librosa computes them: Slaney mel bands of equal area, decibels, orthonormal DCT-II.

    Unlike librosa's, windows are centred on their hop instead of its first sample, and levels are
    not cut at 80 dB below the clip's peak. Rows differ in scale by orders of magnitude: use
    ``normalise: training``, which scales each row.
    Source: Davis & Mermelstein (1980).

    Args:
        coefficients: M, rows, from the 0th (level) on.
        bands: mel bands.
        window: Hann window in samples (512 = 32 ms).
        hop: samples between frames, at most 8,192. One that does not divide 8,192, such as the
            20 ms (320) of many papers, goes with encoders over frames; see `Frontend`.
        n_fft: transform length.
        fmin_hz: lower edge of the lowest band.
        fmax_hz: upper edge of the highest band.
        preemphasis: share of the previous sample that is subtracted from each (0.97 is usual);
            0 = off.
        lifter: L of the factors 1 + L/2 sin(pi (n + 1) / L) on coefficient n, which amplify the
            higher ones (HTK); 0 = off.
        causal: windows end with their hop instead of being centred on it; the hop divides 8,192.

    Raises:
        ConfigError: a size is out of its range.
    """

    channels = 1
    filters: Tensor
    cosines: Tensor

    def __init__(
        self,
        *,
        coefficients: int = 13,
        bands: int = 40,
        window: int = 512,
        hop: int = 256,
        n_fft: int = 1024,
        fmin_hz: float = 0.0,
        fmax_hz: float = 8000.0,
        preemphasis: float = 0.0,
        lifter: int = 0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= coefficients <= bands:
            raise ConfigError(
                f"Bad number of coefficients {coefficients}: legal is 1 to the {bands} mel bands; "
                "lower it or raise bands."
            )
        if not 0 <= preemphasis < 1:
            raise ConfigError(
                f"Bad preemphasis {preemphasis}: legal is 0 (off) to under 1; 0.97 is usual."
            )
        self.bins = coefficients
        self.hop = check_hop(hop, divides=causal)
        self.causal = causal
        self.spectrum = PowerSpectrum(
            window=window,
            hop=hop,
            n_fft=n_fft,
            first_bin=0,
            bin_count=n_fft // 2 + 1,
            align="end" if causal else "centre",
            preemphasis=preemphasis,
        )
        filters = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, fmin_hz, fmax_hz, bands, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", filters, persistent=False)
        cosines = _cosines(bands, coefficients, lifter=lifter)
        self.register_buffer("cosines", cosines.float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]`` into ``[B, 1, M, F]``."""
        mel = self.spectrum.reduced(waveform, lambda power: power @ self.filters)
        decibels = 10 * torch.log10(mel.clamp(min=FLOOR))
        return (decibels @ self.cosines).transpose(1, 2).unsqueeze(1)


def _cosines(bands: int, coefficients: int, *, lifter: int) -> Tensor:
    """Orthonormal DCT-II with the lifter in it: ``[bands, coefficients]`` float64."""
    n = torch.arange(bands, dtype=torch.float64)[:, None]
    k = torch.arange(coefficients, dtype=torch.float64)
    cosines = (math.pi / bands * (n + 0.5) * k).cos() * math.sqrt(2 / bands)
    cosines[:, 0] = math.sqrt(1 / bands)
    if lifter:
        cosines = cosines * (1 + lifter / 2 * (math.pi * (k + 1) / lifter).sin())
    return cosines
