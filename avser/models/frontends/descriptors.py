"""Low-level descriptors: level, zero crossings and MFCC of each frame."""

import torch
from torch import Tensor

from avser.errors import ConfigError
from avser.models.frontends.base import Frontend, pad_windows
from avser.models.frontends.mfcc import Mfcc

_STILL = 1e-10  # what is nearer to zero does not cross it (librosa)


class LowLevelDescriptors(Frontend):
    """RMS, zero-crossing rate, and MFCC as rows of one plane.

    With the defaults these are the 15 rows of MoodMirror, at 16 kHz. Zero-crossing rate is the
    share of a frame's samples whose sign differs from that of the sample before. Rows differ in
    scale by orders of magnitude: use ``normalise: training``, which scales each row.

    Args:
        coefficients: MFCC, from the 0th (level) on; M is two more.
        bands: mel bands.
        window: length of a frame in samples (2,048 = 128 ms).
        hop: samples between frames; see `Mfcc`.
        fmin_hz, fmax_hz: edges of the mel bands.
        causal: frames end with their hop instead of being centred on it.

    Raises:
        ConfigError: a size is out of its range.
    """

    channels = 1

    def __init__(
        self,
        *,
        coefficients: int = 13,
        bands: int = 128,
        window: int = 2048,
        hop: int = 512,
        fmin_hz: float = 0.0,
        fmax_hz: float = 8000.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if window < 2:
            raise ConfigError(f"Bad window {window} samples: legal is hop ({hop}) or more.")
        self.mfcc = Mfcc(
            coefficients=coefficients,
            bands=bands,
            window=window,
            hop=hop,
            n_fft=window,
            fmin_hz=fmin_hz,
            fmax_hz=fmax_hz,
            causal=causal,
        )
        self.bins = coefficients + 2
        self.hop, self.window, self.causal = hop, window, causal

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]`` into ``[B, 1, M, F]``."""
        align = self.mfcc.spectrum.align
        x = pad_windows(waveform, window=self.window, hop=self.hop, align=align)
        level = x.square().unfold(-1, self.window, self.hop).mean(dim=-1).sqrt()
        below = x < -_STILL
        crossed = (below[:, 1:] != below[:, :-1]).to(x.dtype)
        # a frame's first sample has none before it in the frame
        crossings = crossed.unfold(-1, self.window - 1, self.hop).sum(dim=-1) / self.window
        rows = torch.stack([level, crossings], dim=1).unsqueeze(1)
        return torch.cat([rows, self.mfcc(waveform)], dim=2)
