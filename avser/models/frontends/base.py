"""Base class of front ends, and the short-time Fourier transform that all of them share.

The transform has two equal forms. A matrix product with windowed cosines and sines computes only
the bins that are wanted and exports to any runtime; an FFT is faster where window times bins is
large. Each is taken where it is the cheaper one, and the product always when exporting.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.amp import is_autocast_available
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.types import SAMPLE_RATE, STEP_SAMPLES

_FFT_PAYS = 100_000  # window times bins; measured on CPUs (640 x 256: FFT 1.5 times as fast)
RUN_FRAMES = 256  # with 1,024 bins a megabyte: what a processor's cache holds

Alignment = Literal["centre", "start", "end"]


class Frontend(nn.Module, ABC):
    """Turns samples into features on the step grid.

    Frame i is of the hop that begins at sample ``i * hop``, and belongs to the step in which that
    sample lies. Where the hop divides the step, each step has the same number of frames; else
    steps differ by one frame, which encoders over frames take and encoders that pool frames
    refuse, by asking for `frames_per_step`.

    Attributes:
        channels: C, feature planes.
        bins: M, rows of a plane.
        hop: samples between frames.
        causal: no frame depends on sound after its own hop, and the hop divides the step.
    """

    channels: int
    bins: int
    hop: int
    causal: bool = False

    @property
    def frames_per_step(self) -> int:
        """Frames in one step of 0.512 s.

        Raises:
            ConfigError: steps differ in it.
        """
        if STEP_SAMPLES % self.hop:
            raise ConfigError(
                f"Bad hop {self.hop} samples: this encoder needs as many frames in every step of "
                f"{STEP_SAMPLES} samples; use a power of two such as 256, or LstmEncoder."
            )
        return STEP_SAMPLES // self.hop

    @abstractmethod
    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``waveform [B, S]``, S a whole number of steps, into ``[B, C, M, F]``.

        F = ceil(S / hop).
        """

    def of_clips(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """Do as `forward` does, for clips whose valid frames ``mask [B, F]`` are known.

        A front end whose frames depend on other frames overrides this, so that neither padding
        nor trimmed silence is taken for sound.
        """
        features: Tensor = self(waveform)
        return features


def check_hop(hop: int, *, divides: bool = True) -> int:
    """Return the hop if it divides a step, or else need not and is no longer than one.

    Raises:
        ConfigError: it does not, or is.
    """
    if not 1 <= hop <= STEP_SAMPLES or (divides and STEP_SAMPLES % hop):
        raise ConfigError(
            f"Bad hop {hop} samples: a step has {STEP_SAMPLES}; use a power of two such as 128."
        )
    return hop


def _short_of(samples: int, hop: int) -> int:
    """Samples that are missing from a last hop.

    Whole steps lack none where the hop divides the step: said without arithmetic, lengths stay
    simple in exported graphs.
    """
    return -samples % hop if STEP_SAMPLES % hop else 0


def pad_windows(
    waveform: Tensor, *, window: int, hop: int, align: Alignment, more: int = 0
) -> Tensor:
    """Pad ``[B, S]`` with zeros so that ``unfold(-1, window, hop)`` gives ceil(S / hop) windows.

    A window stands around its hop (``centre``), begins with it (``start``), or ends with it
    (``end``: causal). ``more`` zeros follow.
    """
    spare = window - hop
    left = {"centre": spare // 2, "start": 0, "end": spare}[align]
    return F.pad(waveform, (left, spare - left + _short_of(waveform.shape[1], hop) + more))


class PowerSpectrum(nn.Module):
    """Hann-windowed power spectrum of chosen bins, one frame a hop.

    Args:
        window: window length in samples.
        hop: samples between frames.
        n_fft: transform length; bins are ``SAMPLE_RATE / n_fft`` apart.
        first_bin: first bin to compute.
        bin_count: number of bins to compute.
        align: where the window stands relative to its hop; see `pad_windows`.
        preemphasis: share of the sample before that is taken from each sample first; 0 = off.
    """

    kernel: Tensor
    taper: Tensor

    def __init__(
        self,
        *,
        window: int,
        hop: int,
        n_fft: int,
        first_bin: int,
        bin_count: int,
        align: Alignment,
        preemphasis: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 < window <= n_fft or window < hop:
            raise ConfigError(
                f"Bad window {window} samples: legal is hop ({hop}) to n_fft ({n_fft})."
            )
        self.hop, self.window, self.align = hop, window, align
        self.preemphasis = preemphasis
        taper = torch.hann_window(window, periodic=True, dtype=torch.float64)
        kernel = half_kernel(window, n_fft=n_fft, first_bin=first_bin, bin_count=bin_count)
        self.register_buffer("kernel", kernel.float(), persistent=False)
        self.register_buffer("taper", taper.float(), persistent=False)
        self.n_fft = n_fft
        self.bins = slice(first_bin, first_bin + bin_count)
        self.fft_pays = window * bin_count > _FFT_PAYS

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]`` into ``[B, F, bins]`` power, F = ceil(S / hop)."""
        return self.reduced(waveform, lambda power: power)

    def reduced(self, waveform: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        """Turn ``[B, S]`` into ``[B, F, bins]`` power, and that into what ``reduce`` makes of it.

        A processor's memory is far slower than its cache, and power is many times larger than what
        becomes of it: on a processor runs of frames are reduced one by one, which is four times as
        fast with 1,024 bins.

        Args:
            waveform: samples.
            reduce: from power ``[B, f, bins]`` of a run of ``f`` frames, `RUN_FRAMES` but for a
                clip's last run, to ``[B, g, M]``; runs know nothing of each other.
        """
        exporting = torch.compiler.is_exporting()
        hops = -(-self.window // self.hop)  # in which a window lies
        x = pad_windows(
            waveform,
            window=self.window,
            hop=self.hop,
            align=self.align,
            more=hops * self.hop - self.window if exporting else 0,
        )
        if self.preemphasis:  # after padding, which has room for what the last sample leaves behind
            x = x - self.preemphasis * F.pad(x[:, :-1], (1, 0))
        if exporting:  # runtimes join slices several times as fast as they gather single samples
            parts = rearrange(x, "b (f h) -> b f h", h=self.hop)
            count = parts.shape[1] - hops + 1
            rest = self.window - (hops - 1) * self.hop
            whole = [parts[:, i : count + i] for i in range(hops - 1)]
            frames = torch.cat([*whole, parts[:, hops - 1 :, :rest]], dim=-1)
        else:
            frames = x.unfold(-1, self.window, self.hop)
        if torch.compiler.is_exporting() or frames.device.type != "cpu":
            return reduce(self._power(frames))
        clips = (torch.split(clip, RUN_FRAMES, dim=1) for clip in torch.split(frames, 1))
        reduced = ([reduce(self._power(run)) for run in runs] for runs in clips)
        return torch.cat([torch.cat(runs, dim=1) for runs in reduced])

    def _power(self, frames: Tensor) -> Tensor:
        """Turn windows ``[B, F, window]`` into ``[B, F, bins]``."""
        if self.fft_pays and not torch.compiler.is_exporting():
            whole: Tensor = torch.fft.rfft(frames * self.taper, n=self.n_fft)
            chosen = torch.view_as_real(whole[..., self.bins])
            return chosen[..., 0].square() + chosen[..., 1].square()
        # power does not depend on where phase is counted from: counted from the window's middle,
        # cosines are even and sines odd, and half of the products will do
        half = (self.window + 1) // 2
        later, earlier = frames[..., half:], frames[..., 1 : self.window - half + 1].flip(-1)
        real, imaginary = (later + earlier) @ self.kernel[0], (later - earlier) @ self.kernel[1]
        return real.square() + imaginary.square()


def half_kernel(window: int, *, n_fft: int, first_bin: int, bin_count: int) -> Tensor:
    """Cosines and sines under the later half of a Hann window: ``[2, window // 2, bins]`` float64.

    Row n is of the sample at ``ceil(window / 2) + n`` and of its mirror image about the middle of
    the window, which of an even window is itself in row 0 and so counts half. A periodic Hann
    window is symmetric about its middle, but for its first sample, which is 0.
    """
    n = torch.arange((window + 1) // 2, window, dtype=torch.float64) - window / 2
    k = torch.arange(first_bin, first_bin + bin_count, dtype=torch.float64)
    taper = (0.5 + 0.5 * (2 * math.pi / window * n).cos()) * torch.where(n == 0, 0.5, 1.0)
    angle = 2 * math.pi / n_fft * n[:, None] * k
    return torch.stack([angle.cos(), angle.sin()]) * taper[:, None]


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """A context without autocast on the device of ``x``.

    Spectra span 100 dB and bfloat16 keeps 8 bits: under autocast the transform of a loud clip would
    drown its weak bands, so front ends, recurrences and heads compute in float32.
    """
    if torch.compiler.is_exporting() or not is_autocast_available(x.device.type):
        return nullcontext()  # exported graphs know no autocast, nor do some devices
    return torch.autocast(device_type=x.device.type, enabled=False)


def level_dbfs(waveform: Tensor, hop: int) -> Tensor:
    """Level of each hop in dBFS (RMS; full-scale square wave = 0): ``[B, S] -> [B, S / hop]``.

    S is of whole steps, or of whole hops.
    """
    waveform = F.pad(waveform, (0, _short_of(waveform.shape[1], hop)))
    power = rearrange(waveform, "b (f h) -> b f h", h=hop).square().mean(dim=-1)
    return 10 * torch.log10(power + 1e-12)


def valid_frames(
    waveform: Tensor, lengths: Tensor, *, hop: int, below_peak_db: float | None
) -> Tensor:
    """Which frames carry the utterance: ``[B, F]`` bool.

    A frame is valid if it begins inside the clip. With ``below_peak_db``, quiet frames before the
    first and after the last that come within so many dB of the clip's loudest are left out, as
    trimming the file would do; pauses inside stay.
    """
    count = (waveform.shape[1] + _short_of(waveform.shape[1], hop)) // hop
    index = torch.arange(count, device=waveform.device)
    mask = index * hop < lengths[:, None]
    if below_peak_db is None:
        return mask
    level = level_dbfs(waveform, hop).masked_fill(~mask, -200.0)
    active = (level > level.amax(dim=1, keepdim=True) - below_peak_db) & mask
    # a tensor and not the number: exported graphs can't always choose between the two
    first = torch.where(active, index, index[-1:] + 1).amin(dim=1, keepdim=True)
    last = torch.where(active, index, -1).amax(dim=1, keepdim=True)
    margin = int(0.05 * SAMPLE_RATE) // hop  # 50 ms keeps soft onsets
    return mask & (index >= first - margin) & (index <= last + margin)
