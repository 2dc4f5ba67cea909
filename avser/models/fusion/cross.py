"""Cross-attention between the two streams."""

import torch
from einops import rearrange
from torch import Tensor, nn

from avser.models.fusion.concat import ConcatFusion


def shares(scores: Tensor, mask: Tensor) -> Tensor:
    """Column softmax of ``scores [B, I, J]`` over the rows that are valid in ``mask [B, I]``.

    Invalid rows get exactly 0, and so does all where no row is valid.
    """
    valid = rearrange(mask, "b i -> b i 1")
    scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=1) * valid.to(scores.dtype)


class CrossAttentionFusion(ConcatFusion):
    """Cross-attention (Praveen et al., FG 2021), of any number of steps.

    With X_a ``[Da, T]``, X_v ``[Dv, T]`` and learned W ``[Da, Dv]``::

        Z = X_aᵀ W X_v
        X̂_a = X_a softmax(Z)        columns: shares of the audio steps for each video step
        X̂_v = X_v softmax(Zᵀ)       columns: shares of the video steps for each audio step
        X_att = tanh(X + X̂)          of both; output [X_att,v ; X_att,a]

    Softmax runs over valid steps only. X̂ is zero at steps where the querying stream is invalid.

    Args:
        width: see `ConcatFusion`.
        dropout: on the projected streams.
    """

    def __init__(self, *, width: int | None = 128, dropout: float = 0.1) -> None:
        super().__init__(width=width, dropout=dropout)

    def layers(self, audio_dim: int, video_dim: int) -> None:
        """See `ConcatFusion.layers`."""
        self.affinity = nn.Linear(video_dim, audio_dim, bias=False)  # W

    def attend(
        self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `ConcatFusion.attend`."""
        scores = audio @ rearrange(self.affinity(video), "b t d -> b d t")  # Z [B, Ta, Tv]
        to_audio = shares(scores, audio_mask) * rearrange(video_mask, "b v -> b 1 v")
        to_video = shares(rearrange(scores, "b a v -> b v a"), video_mask) * rearrange(
            audio_mask, "b a -> b 1 a"
        )
        attended_audio = torch.einsum("b a d, b a v -> b v d", audio, to_audio)  # X̂_a
        attended_video = torch.einsum("b v d, b v a -> b a d", video, to_video)  # X̂_v
        return torch.tanh(audio + attended_audio), torch.tanh(video + attended_video)
