"""A network on a stream of sound: what `avser.export.runtime` does with an exported file."""

import numpy as np
import torch

from avser.errors import ConfigError
from avser.export.runtime import LISTEN_STEPS, OnnxSegment, OnnxStream, Samples, Window
from avser.models.net import AudioBranch
from avser.types import STEP_SAMPLES


def stream_of(
    branch: AudioBranch, emotions: tuple[str, ...], *, window_steps: int = LISTEN_STEPS
) -> OnnxStream:
    """Begin a stream of the audio branch of a net.

    A causal one carries its state and has heard all that came; any other hears a window of the
    last steps, whole, for each answer. It is run once before, since the first run is slow.

    Args:
        branch: in evaluation mode.
        emotions: in the order of its outputs.
        window_steps: of one that is not causal.
    """
    silence = np.zeros(STEP_SAMPLES, dtype=np.float32)
    if streams(branch):
        _States(branch)(silence)
        return OnnxStream(emotions, _States(branch))
    whole = _Whole(branch)
    whole(np.tile(silence, window_steps))
    return OnnxStream(emotions, Window(whole, steps=window_steps))


def streams(branch: AudioBranch) -> bool:
    """Whether a net carries a state from step to step."""
    try:
        branch.initial_state(1)
    except ConfigError:  # its encoder or its head hears what comes later
        return False
    return True


class _States:
    """Hears step by step; see `avser.export.runtime.Hear`."""

    def __init__(self, branch: AudioBranch) -> None:
        self._branch = branch
        self._state = branch.initial_state(1)

    @torch.inference_mode()
    def __call__(self, piece: Samples) -> tuple[Samples | None, Samples, bool]:
        samples = torch.zeros(1, STEP_SAMPLES)
        samples[0, : len(piece)] = torch.from_numpy(piece)
        lengths = torch.tensor([len(piece)])
        clip, step, valid, self._state = self._branch.advance(samples, lengths, self._state)
        return clip[0].numpy(), step[0].numpy(), bool(valid[0])


class _Whole:
    """Hears a clip."""

    def __init__(self, branch: AudioBranch) -> None:
        self._branch = branch

    @torch.inference_mode()
    def __call__(self, wave: Samples) -> OnnxSegment:
        sound = torch.from_numpy(np.ascontiguousarray(wave))[None]
        found = self._branch(sound, torch.tensor([len(wave)]))
        clip, steps, valid = (x[0].numpy() for x in found)
        return OnnxSegment(clip, steps, valid)
