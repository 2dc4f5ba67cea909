"""Log-mel spectrogram as Whisper computes it."""

import torch
import torchaudio
from torch import Tensor

from avser.models.frontends.base import Frontend, PowerSpectrum, all_frames
from avser.types import SAMPLE_RATE

WINDOW, HOP = 400, 160  # 25 ms and 10 ms
_FLOOR = 8.0  # decades under the loudest bin of the clip


class WhisperMel(Frontend):
    """Decimal log of mel-band power (Slaney scale and area), floored and scaled.

    Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022. As
    there, the clip's beginning is mirrored and zeros follow its end; no padding to 30 s is needed.
    """

    channels = 1
    bins = 80
    hop = HOP
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        bins = WINDOW // 2 + 1
        self.spectrum = PowerSpectrum(
            window=WINDOW, hop=HOP, n_fft=WINDOW, first_bin=0, bin_count=bins, align="start"
        )
        filters = torchaudio.functional.melscale_fbanks(
            bins, 0.0, SAMPLE_RATE / 2, self.bins, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]`` into ``[B, 1, 80, F]``; the floor is taken from all frames."""
        return self.forward_masked(waveform, all_frames(waveform, HOP))

    def forward_masked(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """See `Frontend.forward_masked`; a clip's floor depends on its own frames alone."""
        half = WINDOW // 2
        mirrored = torch.cat([waveform[:, 1 : half + 1].flip(1), waveform], dim=1)
        mel = self.spectrum.reduced(mirrored, lambda power: power @ self.filters)
        valid = mask.unsqueeze(-1)
        log = mel[:, : mask.shape[1]].clamp(min=1e-10).log10()
        peak = torch.where(valid, log, -10.0).amax(dim=(1, 2), keepdim=True)
        scaled = (torch.maximum(log, peak - _FLOOR) + 4.0) / 4.0
        return (scaled * valid).transpose(1, 2).unsqueeze(1)
