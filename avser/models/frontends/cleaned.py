"""Level and noise reduction of a clip before another front end."""

from collections import OrderedDict
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.frontends.base import Frontend, all_frames
from avser.types import SAMPLE_RATE

_KEPT_BYTES = 256 << 20  # of cleaned clips: a corpus of some thousand utterances
_QUIET = 4096  # samples of the noise profile; the gate needs 2048


class Cleaned(Frontend):
    """Another front end, on clips of one level and with reduced noise.

    A clip's level is its RMS from the first to the last valid frame; samples outside are set to
    zero. Noise is reduced by spectral gating (package noisereduce, extra ``denoise``): bins that
    are not 1.5 deviations above the noise are attenuated. The noise is the clip's quietest quarter
    of a second; the package's default, the mean of the clip, gates most of a voice without long
    pauses. Both steps need the whole clip, so this front end is not causal.
    Cleaned clips are kept in memory, because training uses the same clip in every epoch.

    Args:
        frontend: of the cleaned sound.
        level_dbfs: RMS of every clip; None keeps levels.
        clip: clip samples at full scale, which levels above about -12 dBFS exceed.
        denoise: share by which gated bins are attenuated, 0 (off) to 1.

    Raises:
        ConfigError: denoise is out of its range, or its package is not installed.
    """

    def __init__(
        self,
        frontend: Frontend,
        *,
        level_dbfs: float | None = -20.0,
        clip: bool = False,
        denoise: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= denoise <= 1:
            raise ConfigError(f"Bad denoise {denoise}: legal is 0 (off) to 1.")
        self.frontend = frontend
        self.channels, self.bins, self.hop = frontend.channels, frontend.bins, frontend.hop
        self.level_dbfs, self.clip, self.denoise = level_dbfs, clip, denoise
        self.gate = _gate(denoise) if denoise else None
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._size = 0

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn ``[B, S]``, all of it valid, into ``[B, C, M, F]``."""
        return self.forward_masked(waveform, all_frames(waveform, self.hop))

    def forward_masked(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """See `Frontend.forward_masked`."""
        if torch.compiler.is_exporting():
            raise ConfigError(
                "Bad export: Cleaned can't be in a graph; train with its inner front end alone."
            )
        cleaned = torch.zeros_like(waveform)
        for row, valid in enumerate(mask):
            frames = valid.nonzero()
            if len(frames):
                first, last = int(frames[0]) * self.hop, (int(frames[-1]) + 1) * self.hop
                whole = F.pad(waveform[row, first:last], (0, max(0, last - waveform.shape[1])))
                cleaned[row, first:last] = self._clean(whole)[: waveform.shape[1] - first]
        return self.frontend.forward_masked(cleaned, mask)

    @torch.no_grad()
    def _clean(self, samples: Tensor) -> Tensor:
        """Level and gate ``[S]``, or return the result from memory."""
        if self.gate is None:
            return self._levelled(samples)
        key = blake2b(samples.cpu().numpy().tobytes(), digest_size=16).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key].to(samples.device)
        x = self._levelled(samples)
        whole = F.pad(x, (0, max(0, _QUIET - len(x))))
        cleaned = self.gate(whole[None], _quietest(whole)[None])[0]
        # the gate gives whole hops
        cleaned = F.pad(cleaned, (0, max(0, len(x) - len(cleaned))))[: len(x)]
        self._kept[key] = cleaned.cpu()
        self._size += cleaned.nbytes
        while self._size > _KEPT_BYTES:
            self._size -= self._kept.popitem(last=False)[1].nbytes
        return cleaned

    def _levelled(self, samples: Tensor) -> Tensor:
        if self.level_dbfs is None:
            return samples
        rms = samples.square().mean().sqrt()
        gain = 10 ** (self.level_dbfs / 20) / rms.clamp(min=1e-5)  # -100 dBFS is no voice
        levelled = samples * gain
        return levelled.clamp(-1, 1) if self.clip else levelled


def _quietest(samples: Tensor) -> Tensor:
    """The quietest 4096 of ``[S]``."""
    power = samples.square().unfold(0, _QUIET, _QUIET // 8).mean(dim=1)
    first = int(power.argmin()) * (_QUIET // 8)
    return samples[first : first + _QUIET]


def _gate(share: float) -> Any:  # noqa: ANN401 (noisereduce is not typed)
    try:
        from noisereduce.torchgate import TorchGate
    except ImportError as error:
        raise ConfigError(
            f"Bad denoise {share}: the package noisereduce is not installed; install "
            "avser[denoise], or set denoise to 0."
        ) from error
    gate = TorchGate(sr=SAMPLE_RATE, nonstationary=False, prop_decrease=share)
    # its filter follows from the settings: it has no place among a model's weights
    gate.register_buffer("smoothing_filter", gate.smoothing_filter, persistent=False)
    return gate
