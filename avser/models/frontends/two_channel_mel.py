"""Two-channel "pitch and formant" log-mel spectrogram."""

import torch
import torchaudio
from einops import reduce
from torch import Tensor

from avser.errors import ConfigError
from avser.models.frontends.base import Alignment, Frontend, PowerSpectrum, check_hop
from avser.types import SAMPLE_RATE

LONG, SHORT = 640, 80  # samples: 40 ms resolve harmonics, 5 ms resolve glottal time
LONG_FFT, SHORT_FFT = 1024, 512  # bins of 15.6 and 31.25 Hz


class TwoChannelMel(Frontend):
    """Log-mel spectrograms with a long and a short window, as two image channels.

    Channel 1 has a 40 ms window: in its narrow low bands harmonics stand apart (pitch). Channel 2
    has a 5 ms window, whose power is averaged over the hop: harmonics merge, formants remain. The
    windows are those of "Convoluting Feelings" (input section); the mel bands up to ``fmax_hz``
    take the place of its linear bins up to 2,000 Hz, which lack the third formant and fricatives.

    Args:
        bins: mel bands of each channel, M.
        hop: samples between frames; divides 8,192.
        fine_hop: samples between the short windows; divides ``hop``.
        fmin_hz: lower edge of the lowest band.
        fmax_hz: upper edge of the highest band.
        causal: windows end with their hop instead of standing around it.

    Raises:
        ConfigError: ``hop`` does not divide a step, or ``fine_hop`` does not divide ``hop``.
    """

    channels = 2
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
        self.long = PowerSpectrum(
            window=LONG,
            hop=hop,
            n_fft=LONG_FFT,
            first_bin=0,
            bin_count=LONG_FFT // 2 + 1,
            align=align,
        )
        self.short = PowerSpectrum(
            window=SHORT,
            hop=fine_hop,
            n_fft=SHORT_FFT,
            first_bin=0,
            bin_count=SHORT_FFT // 2 + 1,
            align=align,
        )
        for name, n_fft in (("long", LONG_FFT), ("short", SHORT_FFT)):
            filters = torchaudio.functional.melscale_fbanks(
                n_fft // 2 + 1, fmin_hz, fmax_hz, bins, SAMPLE_RATE
            )
            self.register_buffer(f"{name}_filters", filters, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]`` into ``[B, 2, M, F]``."""
        pitch = self.long.reduced(waveform, lambda power: power @ self.long_filters)
        formants = self.short.reduced(waveform, self._averaged)
        # 1e-7: about the power of a 16-bit sample's last bit under the long window
        return torch.log(torch.stack([pitch, formants], dim=1) + 1e-7).transpose(2, 3)

    def _averaged(self, power: Tensor) -> Tensor:
        """Mel power of the short windows, averaged over each hop."""
        mel = power @ self.short_filters
        return reduce(mel, "b (f r) m -> b f m", "mean", r=self.ratio)
