"""Features of clips that come back unchanged, epoch after epoch."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Self

import torch
from torch import Tensor, nn

Compute = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class FeatureMemory:
    """Computes the features of a clip once: of small networks they are most of the work.

    Validation clips are the same in every epoch, training clips where nothing augments them. It
    works on processors alone; on a GPU features cost less than fetching them.

    Args:
        training: training batches come unchanged too.
        limit_bytes: kept at most; clips that find no room are computed each time.
    """

    def __init__(self, *, training: bool, limit_bytes: int = 2**30) -> None:
        self.training, self.room = training, limit_bytes
        self._kept: dict[bytes, tuple[Tensor, Tensor]] = {}

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self  # features are the same for a copied network

    def serves(self, encoder: nn.Module, waveform: Tensor) -> bool:
        """Whether clips of this encoder, whose front end learns nothing, can be looked up now."""
        return (self.training or not encoder.training) and waveform.device.type == "cpu"

    @torch.no_grad()
    def look_up(
        self, waveform: Tensor, lengths: Tensor, compute: Compute, frames_of: Callable[[int], int]
    ) -> tuple[Tensor, Tensor]:
        """What ``compute`` gives for ``waveform [B, S]`` and ``lengths [B]``.

        Args:
            waveform: zero after each clip's length.
            lengths: valid samples.
            compute: gives ``features [B, C, M, F]`` and ``mask [B, F]``; those of a clip alone are
                those of the same clip padded in a batch, up to what stands under an invalid frame.
            frames_of: F of so many samples.
        """
        ends = lengths.tolist()
        keys = [
            blake2b(row[:end].contiguous().numpy().tobytes(), digest_size=16).digest()
            for row, end in zip(waveform, ends, strict=True)
        ]
        new = [i for i, key in enumerate(keys) if key not in self._kept]
        found = {i: self._kept[key] for i, key in enumerate(keys) if key in self._kept}
        if new:
            raw, valid = compute(waveform[new], lengths[new])
            for i, feature, mask in zip(new, raw, valid, strict=True):
                own = frames_of(ends[i])
                found[i] = feature[..., :own], mask[:own]
                self._keep(keys[i], *found[i])
            if len(new) == len(keys):
                return raw, valid
        frames, like = frames_of(waveform.shape[1]), found[0][0]
        features = like.new_zeros(len(keys), *like.shape[:2], frames)
        mask = torch.zeros(len(keys), frames, dtype=torch.bool)
        for i, (feature, own_mask) in found.items():
            features[i, ..., : feature.shape[-1]] = feature
            mask[i, : len(own_mask)] = own_mask
        return features, mask

    def _keep(self, key: bytes, features: Tensor, mask: Tensor) -> None:
        size = features.nbytes + mask.nbytes
        if key not in self._kept and size <= self.room:
            self._kept[key] = features.clone(), mask.clone()
            self.room -= size
