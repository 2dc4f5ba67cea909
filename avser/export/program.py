"""Traced programs of the audio branch: on whole clips, or step by step."""

from typing import Any

import torch
from torch import Tensor, nn

from avser.errors import AvserError, ConfigError
from avser.export.recurrence import exportable
from avser.models.encoders.recurrent import State
from avser.models.net import AudioBranch
from avser.types import STEP_SAMPLES

#: Inputs and outputs of a graph for whole clips, in order.
CLIP_INPUTS = ("waveform", "lengths")
CLIP_OUTPUTS = ("probabilities", "step_probabilities", "step_mask")

#: The same of a graph for steps; inputs and outputs of the state follow.
STEP_INPUTS = ("samples", "lengths")
STEP_OUTPUTS = CLIP_OUTPUTS

#: Size of traced examples; unique, since torch.export takes equal sizes for the same variable.
_CLIPS = 5
_STEPS = 87  # more than the pieces into which some encoders cut a clip


class WholeClips(nn.Module):
    """The audio branch on clips that are cut into steps.

    Sound arrives as ``[B, T, 8192]``: were it ``[B, S]``, every length inside the graph would be a
    remainder of S, which torch.export can't reason about.
    """

    def __init__(self, branch: AudioBranch) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn ``[B, T, 8192], [B]`` into what `AudioBranch` gives.

        Samples after the end of the shorter clips of a batch are ignored.
        """
        wave = waveform.flatten(1)
        inside = torch.arange(wave.shape[1], device=wave.device) < lengths[:, None]
        output: tuple[Tensor, Tensor, Tensor] = self.branch(wave * inside.to(wave.dtype), lengths)
        return output


def whole_clips(branch: AudioBranch) -> torch.export.ExportedProgram:
    """Trace the audio branch for any number of clips and steps."""
    dynamic = torch.export.Dim.DYNAMIC
    example = torch.zeros(_CLIPS, _STEPS, STEP_SAMPLES), torch.full((_CLIPS,), 50_000)
    return traced(WholeClips(branch), example, ({0: dynamic, 1: dynamic}, {0: dynamic}))


def traced(
    module: nn.Module, example: tuple[Any, ...], dynamic: tuple[Any, ...]
) -> torch.export.ExportedProgram:
    """Trace a module; what can't be traced is an error of one sentence."""
    try:
        return torch.export.export(
            exportable(module), example, dynamic_shapes=dynamic, strict=False
        )
    except AvserError:
        raise
    except Exception as error:  # torch's tracing has no base of its own errors
        raise ConfigError(
            f"Bad export: torch can't trace this network ({str(error).splitlines()[0]}); export "
            "one of its kind in configs/model that can."
        ) from error


class OneStep(nn.Module):
    """The audio branch on the next step of each clip."""

    def __init__(self, branch: AudioBranch) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, samples: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, ...]:
        """Turn ``[B, 8192], [B]`` and a state into what `AudioBranch.advance` gives, flat."""
        inside = torch.arange(STEP_SAMPLES, device=samples.device) < lengths[:, None]
        clip, step, mask, after = self.branch.advance(
            samples * inside.to(samples.dtype), lengths, state
        )
        return clip, step, mask, *after


def one_step(branch: AudioBranch) -> torch.export.ExportedProgram:
    """Trace one step of the audio branch for any number of clips.

    Raises:
        ConfigError: it needs samples that come later.
    """
    if branch.encoder.not_streamable is not None:
        raise ConfigError(f"Bad --streaming: {branch.encoder.not_streamable}")
    dynamic = torch.export.Dim.DYNAMIC
    state = branch.initial_state(_CLIPS)
    example = torch.zeros(_CLIPS, STEP_SAMPLES), torch.full((_CLIPS,), 5_000), state
    axes = ({0: dynamic}, {0: dynamic}, tuple({0: dynamic} for _ in state))
    return traced(OneStep(branch), example, axes)


def initial_values(branch: AudioBranch) -> list[float]:
    """The one value that each part of an empty state is filled with."""
    return [float(part.flatten()[0]) for part in branch.initial_state(1)]
