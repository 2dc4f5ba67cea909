"""The two-channel "pitch and formant" spectrogram of "Convoluting Feelings"."""

from collections.abc import Iterable
from typing import cast

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.frontends.base import Frontend, PowerSpectrum
from avser.types import SAMPLE_RATE, STEP_SAMPLES

N_FFT = 2048  # bins of 7.8125 Hz
FINE_HOP = 32  # 2 ms


class TwoChannelSpectrogram(Frontend):
    """Log-magnitude spectrograms with a long and a short window, as two image channels.

    Channel 1 has a 40 ms window and resolves harmonics (pitch); channel 2 has a 5 ms window and
    resolves time (formant movement). Both have a 2 ms hop and 2,048-point transforms; each 512 ms
    step is 256 hops, shrunk by area to ``size`` x ``size``.
    Source: "Convoluting Feelings", input section. Not stated there and fixed here: Hann windows
    that begin with their hop (no centring), sound past the clip's end taken as zero, area resize,
    a floor of -100 dB re full scale inside the logarithm.

    Args:
        fmax_hz: highest frequency; the paper's 2,000 Hz drops the third formant and fricatives.
        size: rows of a plane, and frames a step.
        causal: windows end with their hop instead of beginning with it.
    """

    channels = 2

    def __init__(self, *, fmax_hz: float = 2000.0, size: int = 64, causal: bool = False) -> None:
        super().__init__()
        count = round(fmax_hz * N_FFT / SAMPLE_RATE)
        if not 0 < fmax_hz <= SAMPLE_RATE / 2 or count % size or STEP_SAMPLES // FINE_HOP % size:
            raise ConfigError(
                f"Bad two-channel size {size} for fmax_hz {fmax_hz:g}: size must divide 256 hops "
                f"and {count} bins; use size 64 with 2000, 4000 or 8000 Hz."
            )
        self.bins = size
        self.causal = causal
        self.hop = STEP_SAMPLES // size
        self.shrink = (self.hop // FINE_HOP, count // size)
        self.spectra = torch.nn.ModuleList(
            PowerSpectrum(
                window=window,
                hop=FINE_HOP,
                n_fft=N_FFT,
                first_bin=1,
                bin_count=count,
                align="end" if causal else "start",
            )
            for window in (640, 80)
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]`` into ``[B, 2, M, F]``."""
        planes = [
            s.reduced(waveform, self._shrunk) for s in cast(Iterable[PowerSpectrum], self.spectra)
        ]
        return rearrange(torch.stack(planes, dim=1), "b c f m -> b c m f")

    def _shrunk(self, power: Tensor) -> Tensor:
        """Log magnitude of ``[B, F, bins]`` power, shrunk by area to ``[B, F / shrink, M]``."""
        return 0.5 * F.avg_pool2d(torch.log(power + 1e-10), self.shrink)
