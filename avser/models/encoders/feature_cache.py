"""Features of clips that come back unchanged, epoch after epoch."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Self

import torch
from torch import Tensor, nn

Compute = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class FeatureCache:
    """Computes the features of a clip once: of small networks they are most of the work.

    Validation clips are the same in every epoch, training clips where nothing augments them. It
    works on processors alone; on a GPU features cost less than fetching them. It is for front ends
    without parameters: others give new features after every update, and would learn nothing.

    Args:
        training: training batches come unchanged too.
        limit_bytes: kept at most; clips that find no room are computed each time.
    """

    def __init__(self, *, training: bool, limit_bytes: int = 2**30) -> None:
        self.training, self.limit_bytes = training, limit_bytes
        self.room = limit_bytes
        self._kept: dict[bytes, tuple[Tensor, Tensor]] = {}

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self  # features are the same for a copied network

    def clear(self) -> None:
        """Forget all features, as after a change of the statistics that they were made with."""
        self._kept.clear()
        self.room = self.limit_bytes

    def serves(self, encoder: nn.Module, waveform: Tensor) -> bool:
        """Whether clips of this encoder can be looked up now."""
        return (self.training or not encoder.training) and waveform.device.type == "cpu"

    @torch.no_grad()
    def look_up(
        self, waveform: Tensor, lengths: Tensor, compute: Compute, frames_of: Callable[[int], int]
    ) -> tuple[Tensor, Tensor]:
        """What ``compute`` gives for ``waveform [B, S]`` and ``lengths [B]``.

        Args:
            waveform: zero after each clip's length.
            lengths: valid samples.
            compute: gives ``features [B, C, M, F]`` and ``mask [B, F]``.
            frames_of: F of so many samples.
        """
        ends = [max(1, int(end)) for end in lengths]
        rows = [
            self._one(clip[:end], length, compute, frames_of(end))
            for clip, length, end in zip(waveform, lengths, ends, strict=True)
        ]
        like = rows[0][0]
        features = like.new_zeros(len(rows), *like.shape[:2], frames_of(waveform.shape[1]))
        mask = torch.zeros(len(rows), features.shape[-1], dtype=torch.bool)
        for i, (feature, valid) in enumerate(rows):
            features[i, ..., : feature.shape[-1]] = feature
            mask[i, : len(valid)] = valid
        return features, mask

    def _one(
        self, clip: Tensor, length: Tensor, compute: Compute, frames: int
    ) -> tuple[Tensor, Tensor]:
        """Features ``[C, M, F]`` and mask ``[F]`` of a clip ``[S]``.

        They are computed of the clip alone: in a batch the last digits would depend on the others,
        and a training on which of them were met first.
        """
        key = blake2b(clip.contiguous().numpy().tobytes(), digest_size=16).digest()
        if key not in self._kept:
            raw, valid = compute(clip[None], length[None])
            found = raw[0, ..., :frames], valid[0, :frames]
            size = found[0].nbytes + found[1].nbytes
            if size > self.room:
                return found
            self._kept[key] = found
            self.room -= size
        return self._kept[key]
