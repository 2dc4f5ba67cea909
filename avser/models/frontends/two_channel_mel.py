"""Two-channel "pitch and formant" log-mel spectrogram."""

import math

import torch
import torchaudio
from einops import reduce
from torch import Tensor

from avser.errors import ConfigError
from avser.models.frontends.base import Alignment, Frontend, PowerSpectrum, check_hop
from avser.types import SAMPLE_RATE

LONG, SHORT = 640, 80  # samples: 40 ms resolve harmonics, 5 ms resolve glottal time
LONG_FFT, SHORT_FFT = 1024, 512  # bins of 15.6 and 31.25 Hz
_TAPS = 16  # on each side: no bin is off by more than 1e-12 of the mean power


class TwoChannelMel(Frontend):
    """Log-mel spectrograms with a long and a short window, as two image channels.

    Channel 1 has a 40 ms window, which resolves harmonics in its narrow low bands (pitch). Channel
    2 has a 5 ms window, whose power is averaged over the hop: harmonics merge, formants remain. The
    windows are those of "Convoluting Feelings" (input section). Its linear bins up to 2,000 Hz lack
    the third formant and fricatives; here mel bands reach ``fmax_hz``.

    Args:
        bins: mel bands of each channel, M.
        hop: samples between frames; divides 8,192.
        fine_hop: samples between the short windows; divides ``hop``.
        fmin_hz: lower edge of the lowest band.
        fmax_hz: upper edge of the highest band.
        causal: windows end with their hop instead of being centred on it.

    Raises:
        ConfigError: ``hop`` does not divide a step, or ``fine_hop`` does not divide ``hop``.
    """

    channels = 2
    long: PowerSpectrum
    short: PowerSpectrum
    long_filters: Tensor
    short_filters: Tensor

    def __init__(
        self,
        *,
        bins: int = 64,
        hop: int = 256,
        fine_hop: int = 64,
        fmin_hz: float = 50.0,
        fmax_hz: float = 8000.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.hop = check_hop(hop)
        if not 1 <= fine_hop <= SHORT or hop % fine_hop:
            raise ConfigError(
                f"Bad fine_hop {fine_hop} samples: legal are divisors of hop ({hop}) up to {SHORT}."
            )
        self.bins, self.causal, self.ratio = bins, causal, hop // fine_hop
        align: Alignment = "end" if causal else "centre"
        for name, window, each, n_fft in (
            ("long", LONG, hop, LONG_FFT),
            ("short", SHORT, fine_hop, SHORT_FFT),
        ):
            filters = torchaudio.functional.melscale_fbanks(
                n_fft // 2 + 1, fmin_hz, fmax_hz, bins, SAMPLE_RATE
            )
            if window < n_fft / 4:
                filters, n_fft = on_half_the_bins(filters, window=window), n_fft // 2
            weighted = filters.any(dim=1).nonzero()  # bins that belong to a band
            first, end = int(weighted.min()), int(weighted.max()) + 1
            spectrum = PowerSpectrum(
                window=window,
                hop=each,
                n_fft=n_fft,
                first_bin=first,
                bin_count=end - first,
                align=align,
            )
            self.add_module(name, spectrum)
            self.register_buffer(f"{name}_filters", filters[first:end], persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]`` into ``[B, 2, M, F]``."""
        pitch = self.long.reduced(waveform, lambda power: power @ self.long_filters)
        formants = self.short.reduced(waveform, self._averaged)
        # 1e-7: about the power of a 16-bit sample's last bit under the long window
        return torch.log(torch.stack([pitch, formants], dim=1) + 1e-7).transpose(2, 3)

    def _averaged(self, power: Tensor) -> Tensor:
        """Mel power of the short windows, averaged over each hop."""
        mean = reduce(power, "b (f r) k -> b f k", "mean", r=self.ratio)
        return (mean @ self.short_filters).relu()  # some weights are negative: rounding may win


def on_half_the_bins(filters: Tensor, *, window: int) -> Tensor:
    """Filters of every second bin that give what ``filters`` give of all of them.

    The power spectrum of w samples is a sum of cosines of lags under w: as many bins determine it,
    and of a longer transform every second bin is the weighted sum of its neighbours. Weights are a
    least-squares fit, in which each lag counts as much as a Hann window lets it.

    Args:
        filters: ``[n / 2 + 1, M]`` on the bins of a transform of n samples.
        window: w samples, less than n / 4.

    Returns:
        ``[n / 4 + 1, M]`` on the bins of a transform of n / 2 samples.
    """
    even, odd = filters[::2].double(), filters[1::2].double()
    taper = torch.hann_window(window, periodic=True, dtype=torch.float64)
    share = torch.stack([(taper[lag:] * taper[: window - lag]).sum() for lag in range(window)])
    place = (torch.arange(_TAPS, dtype=torch.float64) + 0.5) * (math.pi / (len(even) - 1))
    waves = 2 * torch.outer(torch.arange(window, dtype=torch.float64), place).cos()
    fit = torch.linalg.lstsq(waves * share[:, None], share[:, None], driver="gelsd")
    last, result = len(even) - 1, even.clone()
    for tap, weight in enumerate(fit.solution[:, 0]):
        for step in (-tap, tap + 1):
            index = (torch.arange(len(odd)) + step).abs()
            index = last - (last - index).abs()  # a spectrum is even about both its ends
            result.index_add_(0, index, weight * odd)
    return result.float()
