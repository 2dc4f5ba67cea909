"""Twenty-six hand-built features of each step of 0.512 s."""

from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor

from avser.models.frontends.base import Frontend, PowerSpectrum
from avser.models.frontends.mfcc import Mfcc
from avser.types import SAMPLE_RATE, STEP_SAMPLES

BANDS_HZ = (0, 1000, 2000, 4000, 8000)
ROLL_OFF = (0.25, 0.5, 0.75, 0.9, 0.95)
PITCH_HZ = (60, 400)
BELOW_2_KHZ = 257  # bins of a transform of 2,048 points
VOICED = 0.45  # autocorrelation from which a frame has a pitch (Boersma 1993)
OCTAVE_COST = 0.05  # how much better a lag an octave longer must fit; else noise halves the pitch
QUIET = 1e-6  # mean square, -60 dBFS

#: What each row is, in order.
NAMES = (
    "rms",
    *(f"mfcc {i}" for i in range(13)),
    "zero crossing",
    *(f"energy {a}-{b} Hz" for a, b in pairwise(BANDS_HZ)),
    *(f"roll-off {share:.0%}" for share in ROLL_OFF),
    "centroid",
    "pitch",
)


class ChunkDescriptors(Frontend):
    """One frame a step, of 26 rows: the hand-built features of "Convoluting Feelings".

    The paper names the kinds and the number of each; their definitions are fixed here:

    - RMS of the step's samples;
    - 13 MFCC (`Mfcc`: 32 ms windows, 40 bands), the mean over the step's frames;
    - zero-crossing rate: share of neighbouring samples of unlike sign;
    - energy in 0-1, 1-2, 2-4 and 4-8 kHz, in dB of the mean power spectrum;
    - roll-off: frequency in Hz below which 25, 50, 75, 90 and 95 % of the power lies;
    - centroid: mean frequency in Hz, weighted by the root of the mean power;
    - pitch in Hz: mean over voiced frames of 64 ms, 0 without any; a frame is voiced if its
      autocorrelation (of what lies under 2 kHz), divided by the window's, reaches .45 at some lag
      of 60 to 400 Hz.

    Steps are independent; a partial last one is padded with silence. Rows differ in scale by orders
    of magnitude: use ``normalise: training``, or a baseline that standardises.
    Source of the pitch: Boersma (1993).
    """

    channels = 1
    bins = len(NAMES)
    hop = STEP_SAMPLES
    causal = True

    cosines: Tensor
    taper: Tensor
    lags: Tensor
    cost: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.mfcc = Mfcc(coefficients=13, bands=40, window=512, hop=256, n_fft=1024)
        self.spectrum = PowerSpectrum(
            window=512, hop=256, n_fft=1024, first_bin=0, bin_count=513, align="centre"
        )
        self.long = PowerSpectrum(
            window=1024, hop=512, n_fft=2048, first_bin=0, bin_count=BELOW_2_KHZ, align="start"
        )
        low, high = PITCH_HZ
        # half samples: at whole ones a high voice's first lag loses to a later one that fits better
        lags = torch.arange(SAMPLE_RATE / high, SAMPLE_RATE / low + 1, 0.5, dtype=torch.float64)
        cosines = _cosines(lags)
        window = torch.hann_window(1024, periodic=True, dtype=torch.float64)
        taper = torch.fft.rfft(window, 2048).abs().square()[:BELOW_2_KHZ] @ cosines
        self.register_buffer("cosines", cosines.float(), persistent=False)
        self.register_buffer("taper", (taper / window.square().sum()).float(), persistent=False)
        self.register_buffer("lags", lags.float(), persistent=False)
        cost = OCTAVE_COST * (lags / lags[0]).log2()
        self.register_buffer("cost", cost.float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]`` into ``[B, 1, 26, T]``."""
        steps = waveform.shape[1] // STEP_SAMPLES
        x = rearrange(waveform, "b (t s) -> (b t) s", t=steps)
        below = x < 0
        crossings = (below[:, 1:] != below[:, :-1]).to(x.dtype).mean(dim=1)
        rows = [
            x.square().mean(dim=1).sqrt()[:, None],
            self.mfcc(x)[:, 0].mean(dim=2),
            crossings[:, None],
            *self._spectral(self.spectrum(x).mean(dim=1)),
            self.pitch(x)[:, None],
        ]
        return rearrange(torch.cat(rows, dim=1), "(b t) m -> b 1 m t", t=steps)

    @staticmethod
    def _spectral(power: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Band energies ``[n, 4]``, roll-offs ``[n, 5]``, centroid ``[n, 1]`` of ``[n, 513]``."""
        width = SAMPLE_RATE / 1024
        edges = [round(hz / width) for hz in BANDS_HZ]
        bands = [power[:, a:b].sum(dim=1) for a, b in pairwise(edges)]
        energies = 10 * torch.log10(torch.stack(bands, dim=1) + 1e-10)
        so_far = power.cumsum(dim=1)
        shares = so_far / so_far[:, -1:].clamp(min=1e-10)
        roll_off = [(shares < share).sum(dim=1) * width for share in ROLL_OFF]
        # silence has neither
        sound = (so_far[:, -1:] > 1e-10).to(power.dtype)
        magnitude = power.sqrt()
        hertz = torch.arange(power.shape[1], device=power.device) * width
        centroid = (magnitude * hertz).sum(dim=1) / magnitude.sum(dim=1).clamp(min=1e-10)
        return energies, torch.stack(roll_off, dim=1) * sound, centroid[:, None] * sound

    def pitch(self, steps: Tensor) -> Tensor:
        """Mean pitch in Hz of each of ``[n, 8192]``; 0 where nothing is voiced."""
        power = self.long(steps)[:, :-1]  # the last window would reach past the step
        level = (2 * power.sum(dim=-1) - power[..., 0]) / 2048  # energy of the frame (Parseval)
        correlation = power @ self.cosines / level.clamp(min=1e-10).unsqueeze(-1)
        strength, best = (correlation / self.taper - self.cost).max(dim=-1)
        voiced = ((strength > VOICED) & (level > QUIET * 384)).to(power.dtype)  # Hann: 3/8 of 1024
        hertz = SAMPLE_RATE / self.lags[best]
        mean: Tensor = (hertz * voiced).sum(dim=1) / voiced.sum(dim=1).clamp(min=1)
        return mean


def _cosines(lags: Tensor) -> Tensor:
    """From power ``[257]`` of bins under 2 kHz to autocorrelation at lags ``[257, L]``."""
    bins = torch.arange(BELOW_2_KHZ, dtype=torch.float64)
    weight = torch.full((BELOW_2_KHZ, 1), 2.0, dtype=torch.float64)
    weight[0] = 1.0
    return (2 * torch.pi / 2048 * bins[:, None] * lags).cos() * weight / 2048
