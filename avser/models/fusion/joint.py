"""Joint cross-attention: each stream attends to both at once."""

import math
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError, unknown
from avser.models.fusion.base import only_valid
from avser.models.fusion.concat import ConcatFusion, at_least_one
from avser.models.fusion.resample import off_grid, onto_grid, overlap

MODES = ("paper", "masked")


class PaperAttention(nn.Module):
    """The paper's equations 2 to 4 for one stream, for exactly L steps.

    Args:
        dim: Da, width of the stream.
        joint: D, width of both streams.
        steps: L.
        hidden: k.
    """

    def __init__(self, dim: int, joint: int, *, steps: int, hidden: int) -> None:
        super().__init__()
        self.correlate = nn.Linear(steps, steps, bias=False)  # W_ja
        self.own = nn.Linear(steps, hidden, bias=False)  # W_a
        self.shared = nn.Linear(joint, hidden, bias=False)  # W_ca
        self.back = nn.Linear(hidden, steps, bias=False)  # W_ha

    def forward(self, x: Tensor, joint: Tensor, mask: Tensor) -> Tensor:
        """Turn ``x [B, L, Da]`` and ``joint [B, L, D]`` into ``[B, L, Da]``.

        The equations have no mask: every point of the grid is used.
        """
        rows = rearrange(x, "b l a -> b a l")
        correlation = torch.tanh(self.correlate(rows) @ joint / math.sqrt(joint.shape[2]))
        attention = F.relu(self.own(rows) + self.shared(correlation))
        attended: Tensor = self.back(attention) + rows
        return rearrange(attended, "b a l -> b l a")


class MaskedAttention(nn.Module):
    """Equations 2 to 4 for one stream with weights sized by width, for any number of steps.

    Args:
        dim: Da, width of the stream.
        joint: D, width of both streams.
        hidden: k.
    """

    def __init__(self, dim: int, joint: int, *, hidden: int) -> None:
        super().__init__()
        self.correlate = nn.Linear(dim, joint, bias=False)  # W_ja
        self.own = nn.Linear(dim, hidden, bias=False)  # W_a
        self.shared = nn.Linear(joint, hidden, bias=False)  # W_ca
        self.back = nn.Linear(hidden, dim, bias=False)  # W_ha

    def forward(self, x: Tensor, joint: Tensor, mask: Tensor) -> Tensor:
        """Turn ``x [B, T, Da]`` and ``joint [B, T, D]`` into ``[B, T, Da]`` under ``mask [B, T]``.

        ``joint`` is zero at invalid steps, and with it the columns of the correlation there.
        """
        columns = rearrange(joint, "b t d -> b d t")
        correlation = torch.tanh(self.correlate(x) @ columns / math.sqrt(joint.shape[2]))
        valid = rearrange(mask.sum(dim=1).clamp(min=1), "b -> b 1 1")
        attention = F.relu(self.own(x) + self.shared(correlation @ joint / valid))
        attended: Tensor = self.back(attention) + x
        return attended


class JointCrossAttentionFusion(ConcatFusion):
    """Joint cross-attention (Praveen et al., CVPRW 2022, arXiv 2203.14779, section 3).

    ``paper``, the equations as printed, on a grid of L steps, with X_a ``[Da, L]``, X_v
    ``[Dv, L]``, D = Da + Dv, and weights without bias (v likewise)::

        1.  J = [X_a ; X_v]                                  [D, L]
        2.  C_a = tanh(X_a W_ja Jᵀ / √D)                     [Da, D], W_ja [L, L]
        3.  H_a = ReLU(X_a W_a + C_a W_ca)                   [Da, k], W_a [L, k], W_ca [D, k]
        4.  X_att,a = H_a W_ha + X_a                         W_ha [k, L]
        5.  output [X_att,v ; X_att,a]                       [D, L]

    A clip of another number of valid steps is resampled to L points and the attended streams are
    resampled back (`avser.models.fusion.resample`). A step at which one stream is lost is no part
    of that stream's means; a point to which it gives nothing is zero.

    ``masked``, a variant with weights sized by width, for any number of steps T of which n are
    valid. X_a is zero where audio is invalid, and J where both streams are: columns of C_a there
    are zero and get no attention (v likewise)::

        2.  C_a = tanh(X_aᵀ W_ja J / √D)                     [T, T], W_ja [Da, D]
        3.  H_a = ReLU(X_aᵀ W_a + C_a Jᵀ W_ca / max(n, 1))   [T, k], W_a [Da, k], W_ca [D, k]
        4.  X_att,a = (H_a W_ha)ᵀ + X_a                      W_ha [k, Da]; invalid rows zero

    Recursive (Praveen et al., ICASSP 2023, arXiv 2304.07958): J is rebuilt from the attended
    streams and equations 2 to 4 are run on them again, with the same weights.

    Args:
        mode: "paper" or "masked".
        hidden: k.
        steps: L; unused by "masked".
        recursions: how often the streams attend; 1 is the paper of 2022.
        width: see `ConcatFusion`.
        dropout: on the projected streams.

    Raises:
        ConfigError: the mode is unknown, or a size is not positive.
    """

    def __init__(
        self,
        *,
        mode: Literal["paper", "masked"] = "masked",
        hidden: int = 32,
        steps: int = 8,
        recursions: int = 1,
        width: int | None = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(width=width, dropout=dropout)
        if mode not in MODES:  # a released model's settings come from a file, unchecked
            raise ConfigError(unknown("mode", mode, MODES))
        self.mode = mode
        self.hidden = at_least_one("hidden", hidden)
        self.steps = at_least_one("steps", steps)
        self.recursions = at_least_one("recursions", recursions)

    def layers(self, audio_dim: int, video_dim: int) -> None:
        """See `ConcatFusion.layers`."""
        self.attend_audio = self._attention(audio_dim)
        self.attend_video = self._attention(video_dim)

    def _attention(self, dim: int) -> nn.Module:
        if self.mode == "paper":
            return PaperAttention(dim, self.dim, steps=self.steps, hidden=self.hidden)
        return MaskedAttention(dim, self.dim, hidden=self.hidden)

    def attend(
        self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `ConcatFusion.attend`."""
        if self.mode == "masked":
            return self._rounds(audio, audio_mask, video, video_mask)
        weights = overlap(audio_mask | video_mask, self.steps)
        of_audio = weights * rearrange(audio_mask, "b t -> b 1 t")
        of_video = weights * rearrange(video_mask, "b t -> b 1 t")
        audio, video = self._rounds(
            onto_grid(audio, of_audio),
            (of_audio > 0).any(dim=2),
            onto_grid(video, of_video),
            (of_video > 0).any(dim=2),
        )
        return off_grid(audio, of_audio), off_grid(video, of_video)

    def _rounds(
        self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        mask = audio_mask | video_mask
        for _ in range(self.recursions):
            joint = torch.cat([audio, video], dim=-1)
            audio, video = (
                only_valid(self.attend_audio(audio, joint, mask), audio_mask),
                only_valid(self.attend_video(video, joint, mask), video_mask),
            )
        return audio, video
