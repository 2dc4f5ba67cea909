"""What is exported: the voice half of a net on whole clips."""

import torch
from torch import Tensor, nn

from avser.export.recurrence import exportable
from avser.net import AudioBranch
from avser.types import STEP_SAMPLES

#: Inputs and outputs of a graph for whole clips, in order.
CLIP_INPUTS = ("waveform", "lengths")
CLIP_OUTPUTS = ("probabilities", "step_probabilities", "step_mask")


class WholeClips(nn.Module):
    """The voice half on clips that are cut into steps.

    Sound arrives as ``[B, T, 8192]``: were it ``[B, S]``, every length inside the graph would be a
    remainder of S, which torch.export can't reason about.
    """

    def __init__(self, branch: AudioBranch) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn ``[B, T, 8192], [B]`` into what `AudioBranch` gives.

        What a batch's longest clip leaves over in the others is taken for silence, whatever it is.
        """
        wave = waveform.flatten(1)
        inside = torch.arange(wave.shape[1], device=wave.device) < lengths[:, None]
        found: tuple[Tensor, Tensor, Tensor] = self.branch(wave * inside.to(wave.dtype), lengths)
        return found


def whole_clips(branch: AudioBranch) -> torch.export.ExportedProgram:
    """Trace the voice half for any number of clips and steps."""
    dynamic = torch.export.Dim.DYNAMIC
    # sizes that nothing else has: torch.export takes equal sizes for the same
    example = (torch.zeros(2, 3, STEP_SAMPLES), torch.tensor([3 * STEP_SAMPLES, 20_000]))
    return torch.export.export(
        exportable(WholeClips(branch)),
        example,
        dynamic_shapes=({0: dynamic, 1: dynamic}, {0: dynamic}),
        strict=False,
    )
