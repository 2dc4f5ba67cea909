"""Base class of front ends, and the short-time Fourier transform that all of them share.

The transform has two equivalent forms. A matrix product with windowed cosines and sines computes
only the bins that are needed and exports to any runtime; an FFT is faster if window times bins is
large. The cheaper one is used, and always the product when exporting.
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
RUN_FRAMES = 256  # with 1,024 bins a megabyte, which fits a processor's cache

Alignment = Literal["centre", "start", "end"]


class Frontend(nn.Module, ABC):
    """Turns samples into features on the step grid.

    Frame i covers the hop that begins at sample ``i * hop``, and belongs to the step of that
    sample. If the hop divides the step, each step has the same number of frames. Otherwise steps
    differ by one frame; encoders that need `frames_per_step` refuse such a hop.

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
            ConfigError: steps have different numbers of frames.
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

    def forward_masked(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """Do as `forward` does, for clips with valid frames ``mask [B, F]``.

        A front end whose frames depend on other frames overrides this, so that valid frames depend
        neither on padding nor on trimmed silence.
        """
        features: Tensor = self(waveform)
        return features


def all_frames(waveform: Tensor, hop: int) -> Tensor:
    """Mask ``[B, F]`` of ``waveform [B, S]`` in which every frame is valid; F = ceil(S / hop)."""
    frames = -(-waveform.shape[1] // hop)
    return waveform.new_ones(len(waveform), frames, dtype=torch.bool)


def check_hop(hop: int, *, divides: bool = True) -> int:
    """Return the hop in samples, if it is legal.

    Args:
        hop: from 1 to the samples of a step.
        divides: whether it must divide the step.

    Raises:
        ConfigError: it is not legal.
    """
    if not 1 <= hop <= STEP_SAMPLES or (divides and STEP_SAMPLES % hop):
        raise ConfigError(
            f"Bad hop {hop} samples: a step has {STEP_SAMPLES}; use a power of two such as 128."
        )
    return hop


def _short_of(samples: int, hop: int) -> int:
    """Samples that are missing from the last hop of whole steps.

    It is the constant 0 if the hop divides the step, which keeps lengths simple in exported graphs.
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
        preemphasis: share of the previous sample that is subtracted from each; 0 = off.
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
        """Turn ``[B, S]`` into ``[B, F, bins]`` power, and apply ``reduce`` to it.

        On a CPU, runs of frames are reduced one by one: power is many times larger than the result
        and would not fit the cache. With 1,024 bins that is four times as fast.

        Args:
            waveform: samples.
            reduce: from power ``[B, f, bins]`` of a run of ``f`` frames to ``[B, g, M]``; f is
                `RUN_FRAMES`, or less in a clip's last run.
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
        if self.preemphasis:  # after padding: the last sample also affects the one after it
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

    Spectra span 100 dB and bfloat16 has 8 bits: under autocast, rounding errors of strong bands
    would exceed weak ones. Front ends, recurrences and heads therefore compute in float32.
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
    """Valid frames of each clip, ``[B, F]`` bool.

    A frame is valid if it begins inside the clip. With ``below_peak_db``, the clip's edges are
    trimmed up to the first and last frame within that many dB of its loudest frame; pauses inside
    stay valid.
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
