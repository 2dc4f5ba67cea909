"""No front end: the samples themselves, for networks that make their own features."""

from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from avser.models.frontends.base import Frontend, check_hop


class RawWaveform(Frontend):
    """Each hop's samples as the rows of its frame. Use ``normalise: none`` and no SpecAugment.

    Args:
        hop: samples per frame; 320 (20 ms) is that of wav2vec 2.0, HuBERT and WavLM.
    """

    channels = 1

    def __init__(self, *, hop: int = 320) -> None:
        super().__init__()
        self.hop = self.bins = check_hop(hop, divides=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]`` into ``[B, 1, hop, F]``."""
        padded = F.pad(waveform, (0, -waveform.shape[1] % self.hop))
        return rearrange(padded, "b (f h) -> b 1 h f", h=self.hop)
