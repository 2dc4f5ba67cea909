"""Cache in memory of the features of clips that are the same in every epoch."""

from hashlib import blake2b

import torch
from torch import Tensor

from avser.models.transforms import FeatureExtractor


class FeatureCache:
    """Computes the features of a clip once; for small networks they take most of the time.

    Pass it as `avser.models.transforms.Transforms.features`, for clips that do not change from
    epoch to epoch: validation clips, and training clips without augmentation. On a GPU it computes
    every time, which is faster than a lookup. Encoders need `constant_features`; networks with the
    same front end may share one cache.

    Args:
        limit_bytes: largest size of all cached features; clips beyond it are computed each time.
    """

    def __init__(self, *, limit_bytes: int = 2**30) -> None:
        self.limit_bytes = limit_bytes
        self._free_bytes = limit_bytes
        self._rows: dict[bytes, tuple[Tensor, Tensor]] = {}

    def clear(self) -> None:
        """Remove all features; needed after a change of the statistics that they depend on."""
        self._rows.clear()
        self._free_bytes = self.limit_bytes

    def __call__(
        self, encoder: FeatureExtractor, waveform: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return `AudioEncoder.raw_features`, from the cache where it has them.

        Args:
            encoder: computes what is missing.
            waveform: ``[B, S]``, zero after each clip's length.
            lengths: ``[B]`` valid samples.
        """
        if waveform.device.type != "cpu":
            return encoder.raw_features(waveform, lengths)
        with torch.no_grad():
            ends = [max(1, int(end)) for end in lengths]
            rows = [
                self._row(encoder, clip[:end], length)
                for clip, length, end in zip(waveform, lengths, ends, strict=True)
            ]
            like, frames = rows[0][0], encoder.frame_count(waveform.shape[1])
            features = like.new_zeros(len(rows), *like.shape[:2], frames)
            mask = torch.zeros(len(rows), frames, dtype=torch.bool)
            for i, (feature, valid) in enumerate(rows):
                features[i, ..., : feature.shape[-1]] = feature
                mask[i, : len(valid)] = valid
        return features, mask

    def _row(
        self, encoder: FeatureExtractor, clip: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features ``[C, M, F]`` and mask ``[F]`` of a clip ``[S]``.

        They are computed from the clip alone: in a batch their last digits would depend on the
        other clips, and a training on the order of its batches.
        """
        key = blake2b(clip.contiguous().numpy().tobytes(), digest_size=16).digest()
        if key not in self._rows:
            frames = encoder.frame_count(len(clip))
            raw, valid = encoder.raw_features(clip[None], length[None])
            row = raw[0, ..., :frames], valid[0, :frames]
            size = row[0].nbytes + row[1].nbytes
            if size > self._free_bytes:
                return row
            self._rows[key] = row
            self._free_bytes -= size
        return self._rows[key]
