"""Late fusion: a product of the two streams' calibrated probabilities."""

import torch
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.fusion.base import StreamFusion


class LateFusion(StreamFusion):
    """Sums the streams' log probabilities, those of the video times a weight: a product of experts.

    It has nothing to train, so it needs no clips with both streams. A step that only one stream has
    gets that stream's prediction.

    Args:
        weight: exponent of the video's probabilities; 0 gives those of the audio.

    Raises:
        ConfigError: the weight is negative or not finite.
    """

    def __init__(self, *, weight: float = 0.5) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ConfigError(
                f"Bad weight {weight} of late fusion: legal is 0 or more; try 0.5, or choose it on "
                "validation with avser join."
            )
        self.weight = weight

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """Join calibrated logits ``[..., K]`` of both streams into log probabilities."""
        return (audio.log_softmax(dim=-1) + self.weight * video.log_softmax(dim=-1)).log_softmax(-1)

    def join_steps(
        self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Join calibrated logits ``[B, T, K]`` of steps under masks ``[B, T]``.

        The streams may have different numbers of steps.

        Returns:
            Log probabilities ``[B, T, K]``, and the union of the masks.
        """
        steps = max(audio.shape[1], video.shape[1])
        audio, video = (F.pad(x, (0, 0, 0, steps - x.shape[1])) for x in (audio, video))
        audio_mask, video_mask = (
            F.pad(m, (0, steps - m.shape[1])) for m in (audio_mask, video_mask)
        )
        one = torch.where(audio_mask.unsqueeze(-1), audio, video).log_softmax(dim=-1)
        both = (audio_mask & video_mask).unsqueeze(-1)
        return torch.where(both, self(audio, video), one), audio_mask | video_mask
