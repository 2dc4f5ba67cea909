"""Streams of the audio branch of a network: `avser.export.runtime` without an exported file."""

import numpy as np
import torch

from avser.errors import ConfigError
from avser.export.runtime import LISTEN_STEPS, OnnxSegment, OnnxStream, Samples, Window
from avser.models.net import AudioBranch
from avser.types import STEP_SAMPLES


def open_stream(
    branch: AudioBranch, emotions: tuple[str, ...], *, window_steps: int = LISTEN_STEPS
) -> OnnxStream:
    """Begin a stream of the audio branch of a net.

    A causal branch carries its state from step to step, so that each prediction uses all sound so
    far. Any other runs on a window of the last steps for each prediction. It is run once
    beforehand, since the first run is slow.

    Args:
        branch: in evaluation mode.
        emotions: in the order of its outputs.
        window_steps: of a branch that is not causal.
    """
    silence = np.zeros(STEP_SAMPLES, dtype=np.float32)
    if is_causal(branch):
        _StepRunner(branch)(silence)
        return OnnxStream(emotions, _StepRunner(branch))
    whole = _WindowRunner(branch)
    whole(np.tile(silence, window_steps))
    return OnnxStream(emotions, Window(whole, steps=window_steps))


def is_causal(branch: AudioBranch) -> bool:
    """Whether a branch carries a state from step to step."""
    try:
        branch.initial_state(1)
    except ConfigError:  # its encoder or its head uses what comes later
        return False
    return True


class _StepRunner:
    """Runs a causal branch step by step."""

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


class _WindowRunner:
    """Runs a branch on a whole window."""

    def __init__(self, branch: AudioBranch) -> None:
        self._branch = branch

    @torch.inference_mode()
    def __call__(self, wave: Samples) -> OnnxSegment:
        samples = torch.from_numpy(np.ascontiguousarray(wave))[None]
        outputs = self._branch(samples, torch.tensor([len(wave)]))
        clip, steps, valid = (x[0].numpy() for x in outputs)
        return OnnxSegment(clip, steps, valid)
