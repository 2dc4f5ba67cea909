"""Grouping of frames into steps of 0.512 s, whether or not the hop divides the step."""

import torch
from einops import rearrange
from torch import Tensor

from avser.errors import ConfigError
from avser.models.encoders.recurrent import span_of
from avser.types import SAMPLE_RATE, STEP_SAMPLES


def group_by_step(x: Tensor, mask: Tensor, *, hop: int) -> tuple[Tensor, Tensor]:
    """Group frames by the step in which they begin.

    Args:
        x: ``[B, F, D]``, of a whole number of steps.
        mask: ``[B, F]``, valid frames.
        hop: samples between frames.

    Returns:
        ``[B, T, n, D]`` and ``[B, T, n]``, n being the largest number of frames of a step; in a
        step with fewer, the last one is invalid.
    """
    each = -(-STEP_SAMPLES // hop)
    if STEP_SAMPLES % hop == 0:
        steps = rearrange(x, "b (t n) d -> b t n d", n=each)
        return steps, rearrange(mask, "b (t n) -> b t n", n=each)
    count = x.shape[1] * hop // STEP_SAMPLES
    step = torch.arange(count, device=x.device)[:, None]
    frame = (step * STEP_SAMPLES + hop - 1) // hop + torch.arange(each, device=x.device)
    inside = frame * hop < (step + 1) * STEP_SAMPLES
    frame = frame.clamp(max=x.shape[1] - 1)
    return x[:, frame], mask[:, frame] & inside


def mean_weights(valid: Tensor, like: Tensor) -> Tensor:
    """Weights ``[B, T, n, 1]`` of a mean over n where ``valid [B, T, n]``; 0 where none is valid.

    Args:
        valid: bool.
        like: gives the type of the weights.
    """
    weights = valid.unsqueeze(-1).to(like.dtype)
    return weights / weights.sum(dim=2, keepdim=True).clamp(min=1.0)


def repeat_over_steps(vector: Tensor, mask: Tensor, *, hop: int) -> tuple[Tensor, Tensor]:
    """Repeat a clip's ``vector [B, D]`` over its valid steps: ``[B, T, D]`` and ``[B, T]``.

    A step is valid if any of its frames is in ``mask [B, F]``.
    """
    _, valid = group_by_step(mask.unsqueeze(-1), mask, hop=hop)
    steps = valid.any(dim=2)
    return vector.unsqueeze(1) * steps.unsqueeze(-1).to(vector.dtype), steps


def frames_of(clip_s: float, hop: int) -> int:
    """Number of frames of a duration in seconds.

    Raises:
        ConfigError: it is shorter than a frame.
    """
    frames = round(clip_s * SAMPLE_RATE / hop)
    if frames < 1:
        raise ConfigError(f"Bad clip_s {clip_s:g}: legal is a duration of at least one frame.")
    return frames


def crop_or_pad(features: Tensor, mask: Tensor, frames: int) -> Tensor:
    """Cut every clip to its middle frames, or pad it with zeros, to the same length.

    Args:
        features: ``[B, C, M, F]``, normalised, so that zero is the mean.
        mask: ``[B, F]``, valid frames; invalid ones inside the clip become zero too.
        frames: the length.

    Returns:
        ``[B, C, M, frames]``.
    """
    first, count = span_of(mask)
    start = first + (count - frames).clamp(min=0) // 2
    index = start + torch.arange(frames, device=mask.device)
    inside = index < first + count
    index = index.clamp(max=mask.shape[1] - 1)
    valid = mask.gather(1, index) & inside
    index = index[:, None, None].expand(-1, *features.shape[1:3], -1)
    return features.gather(3, index) * valid[:, None, None].to(features.dtype)
