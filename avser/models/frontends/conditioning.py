"""Conditioning of a waveform before any front end: offset, level, and the test for sound.

Training, prediction, streams and exported graphs all use the functions here, so that they treat a
microphone's offset or a quiet recording alike.
"""

import math
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from avser.types import SILENCE_DBFS, STEP_SAMPLES

#: ``mean`` removes the offset; ``level`` also scales the loudest 32 ms to -10 dBFS.
Conditioning = Literal["mean", "level"]
#: Sound from which a step's mean and level are computed: of the clip, up to the step's end, or of
#: the step alone.
Reach = Literal["clip", "past", "step"]

HOP = 512  # 32 ms, over which levels are measured
_TARGET_DBFS = -10.0  # of the loudest hop: speech of that level has its peaks near full scale
_MOST_GAIN_DB = 80.0  # from the last bit of 16 to the target
_MOST_GAIN_OF_STREAM_DB = 20.0

_CURVED_DB = -39.0  # second difference to level of a hop: -37 at 300 Hz, -49 of pure 150 Hz
_STEADY_DBFS = -80.0  # second difference of 16-bit dither is at -84
_FAINT_DBFS = -97.0  # speech at the last bit of 16
_STANDS_OUT_DB = 4.0  # peak over mean level; steady noise has 2, speech in as much noise 10
_ZERO_DBFS = -130.0  # under 24 bits: digital silence
_BASE_DB = 200.0  # added to levels in the evidence, so that none at all is 0


def whole_steps(waveform: Tensor) -> Tensor:
    """Pad ``[B, S]`` with zeros to a whole number of steps, at least one."""
    spare = -waveform.shape[1] % STEP_SAMPLES if waveform.shape[1] else STEP_SAMPLES
    return F.pad(waveform, (0, spare))


def condition(
    waveform: Tensor,
    lengths: Tensor,
    *,
    mode: Conditioning,
    reach: Reach,
    before: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Remove the offset of each clip, and scale its level in mode ``level``.

    A stream can't know a clip's mean and peak beforehand: with reach ``past`` each step is
    conditioned by the sound up to its end. The gain is then at most 20 dB, so that background noise
    before the first speech is not amplified to the level of speech.

    Args:
        waveform: ``[B, S]``, zero after each clip's length.
        lengths: ``[B]`` valid samples.
        mode: see `Conditioning`.
        reach: see `Reach`.
        before: of a stream, the state returned for the steps before, ``[B, 3]``; None at its start.

    Returns:
        The conditioned float32 waveform, padded to whole steps, and the state ``[B, 3]``: sum,
        number and highest power of the samples so far.
    """
    waveform = whole_steps(waveform.float())
    inside = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
    inside = rearrange(inside, "b (t s) -> b t s", s=STEP_SAMPLES).to(waveform.dtype)
    steps = rearrange(waveform, "b (t s) -> b t s", s=STEP_SAMPLES)
    begin = waveform.new_zeros(waveform.shape[0], 3) if before is None else before
    total, count = (steps * inside).sum(dim=2), inside.sum(dim=2)
    if reach == "clip":
        total, count = (x.sum(dim=1, keepdim=True) for x in (total, count))
    elif reach == "past":
        total, count = total.cumsum(dim=1) + begin[:, :1], count.cumsum(dim=1) + begin[:, 1:2]
    steps = (steps - (total / count.clamp(min=1)).unsqueeze(2)) * inside
    hops = rearrange(steps, "b t (f h) -> b t f h", h=HOP)
    power = hops.square().mean(dim=3).amax(dim=2)
    if reach == "clip":
        power = power.amax(dim=1, keepdim=True)
    elif reach == "past":
        power = torch.maximum(_highest_so_far(power), begin[:, 2:])
    if mode == "level":
        most = _MOST_GAIN_DB if reach == "clip" else _MOST_GAIN_OF_STREAM_DB
        gain = (10 ** (_TARGET_DBFS / 20) * (power + 1e-20).rsqrt()).clamp(max=10 ** (most / 20))
        steps = steps * gain.unsqueeze(2)
    after = torch.stack([total[:, -1], count[:, -1], power[:, -1]], dim=1)
    return rearrange(steps, "b t s -> b (t s)"), after


def _highest_so_far(x: Tensor) -> Tensor:
    """Running maximum of ``[B, T]``, none of which is negative."""
    index = torch.arange(x.shape[1], device=x.device)
    earlier = index <= index[:, None]  # not cummax: exported graphs have none
    return torch.where(earlier, x.unsqueeze(1), 0.0).amax(dim=2)


def sound_evidence(waveform: Tensor, lengths: Tensor, before: Tensor | None = None) -> Tensor:
    """Measure the levels on which `is_sound` decides.

    Levels are those of the second difference, which removes an offset and attenuates hum and its
    first harmonics: by 68 dB at 50 Hz, 49 dB at 150 Hz, 17 dB at 1 kHz.

    Args:
        waveform: ``[B, S]``.
        lengths: ``[B]`` valid samples.
        before: of a stream, the result for the part before.

    Returns:
        ``[B, 4]``, including the part before: highest level of a hop that is not hum, sum of the
        levels of all hops that are not digital silence, their number, and whether a step was loud.
    """
    waveform = whole_steps(waveform.float())
    hops = rearrange(waveform, "b (f h) -> b f h", h=HOP)
    index = torch.arange(hops.shape[1], device=waveform.device)
    whole = (index + 1) * HOP <= lengths[:, None]  # the edge of a partial one is no sound
    power = (hops - hops.mean(dim=2, keepdim=True)).square().mean(dim=2) * whole
    curve = hops[..., 2:] - 2 * hops[..., 1:-1] + hops[..., :-2]
    level, bend = _decibels(power), _decibels(curve.square().mean(dim=2))
    curved = whole & (bend > level + _CURVED_DB)
    there = whole & (level > _ZERO_DBFS)
    each = STEP_SAMPLES // HOP
    of_step = _decibels(rearrange(power, "b (t f) -> b t f", f=each).mean(dim=2))
    steady = rearrange(curved & (bend > _STEADY_DBFS), "b (t f) -> b t f", f=each).any(dim=2)
    loud = ((of_step > SILENCE_DBFS) & steady).any(dim=1)
    peak = torch.where(curved, bend + _BASE_DB, 0.0).amax(dim=1)
    total = torch.where(there, bend + _BASE_DB, 0.0).sum(dim=1)
    evidence = torch.stack([peak, total, there.sum(dim=1).to(peak), loud.to(peak)], dim=1)
    if before is None:
        return evidence
    highest, added = torch.maximum(evidence, before), evidence + before
    return torch.stack([highest[:, 0], added[:, 1], added[:, 2], highest[:, 3]], dim=1)


def is_sound(evidence: Tensor) -> Tensor:
    """Decide by ``[B, 4]`` of `sound_evidence`: ``[B]`` bool.

    A clip has sound if its peak is well above its mean level, as in quiet speech, or if it is
    louder than -60 dBFS. A constant, hum, and steady noise below that level are not sound.
    """
    peak, total, count, loud = evidence.unbind(dim=1)
    stands_out = peak - total / count.clamp(min=1) > _STANDS_OUT_DB
    return (loud > 0) | (stands_out & (peak > _FAINT_DBFS + _BASE_DB))


def has_sound(waveform: Tensor, lengths: Tensor) -> Tensor:
    """Which clips of ``waveform [B, S]`` and ``lengths [B]`` have sound: ``[B]`` bool."""
    return is_sound(sound_evidence(waveform, lengths))


def _decibels(power: Tensor) -> Tensor:
    return 10 / math.log(10) * torch.log(power + 1e-14)
