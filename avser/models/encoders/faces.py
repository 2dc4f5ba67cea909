"""Base class of encoders of face crops."""

from abc import abstractmethod
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.models.centring import RunningCentre
from avser.models.devices import device_of
from avser.models.encoders.base import VideoEncoder
from avser.models.encoders.lips import lip_movement
from avser.models.encoders.norms import fold_batch_norms
from avser.models.frontends.base import full_precision
from avser.models.transforms import IDENTITY, Transforms
from avser.types import Batch

#: Crops of one forward pass outside of training; bounds memory for clips of any length.
PIECE = 512

_LUMA = (
    0.299,
    0.587,
    0.114,
)  # shares of red, green and blue in brightness (ITU-R BT.601, as in OpenCV)
_SAME = 1e-4  # of the largest value: what rounding makes different


#: Parts of a step's vector; see `FaceEncoder`.
StepStatistic = Literal["mean", "deviation", "centred", "lips"]

_LIPS_WIDTH = 2  # mean and deviation


class FaceEncoder(VideoEncoder):
    """Embeds each valid face crop; a step's vector is made of statistics over its valid crops.

    Invalid crops are never embedded, so the result does not depend on them or on padding. A
    subclass sets `width` and writes `embed`.

    Args:
        mirror: outside of training, embed each crop and its mirror image and take the mean: twice
            the arithmetic for about a point of accuracy.
        statistics: of a step's embeddings, one after the other. ``mean``; ``deviation``, the
            movement within the step, 0 where it has a single crop; ``centred``, the mean less the
            person's own running mean, which warms up as `RunningCentre` says. A clip of over 61 s
            is predicted in windows, and the running mean begins anew in each. With `person_mean`
            set, that is subtracted instead, in full. ``lips``, two values: mean and deviation over
            the step of the movement of the lips since the crop before (`lip_movement`), 0 where
            that is unknown.

    Attributes:
        width: of a crop's embedding.
        person_mean: mean embedding ``[width]`` of an enrolled person, for ``centred``; None is the
            running mean. No part of the model: it is never stored.

    Raises:
        ConfigError: a statistic is unknown, named twice, or there is none.
    """

    width: int
    person_mean: Tensor | None

    def __init__(
        self, *, mirror: bool = False, statistics: tuple[StepStatistic, ...] = ("mean",)
    ) -> None:
        super().__init__()
        legal = get_args(StepStatistic)
        if not statistics or len(set(statistics) & set(legal)) < len(statistics):
            raise ConfigError(
                f"Bad statistics {list(statistics)}: legal are {', '.join(legal)}, each at most "
                "once; name at least one."
            )
        self.mirror = mirror
        self.statistics = tuple(statistics)
        self.register_buffer("person_mean", None, persistent=False)

    @property
    def dim(self) -> int:  # type: ignore[override]  # follows from the width
        """D, width of a step's vector."""
        lips = "lips" in self.statistics
        return self.width * (len(self.statistics) - lips) + lips * _LIPS_WIDTH

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Turn ``images [n, C, H, W]`` float32 from 0 to 1 into vectors ``[n, width]``.

        C is 1 (grey) or 3 (RGB).
        """

    def forward(self, batch: Batch, *, transforms: Transforms = IDENTITY) -> tuple[Tensor, Tensor]:
        """See `VideoEncoder.forward`."""
        vectors, valid = self.embed_crops(batch, transforms=transforms)
        with full_precision(vectors):
            return self.pool_crops(vectors, valid)

    def embed_crops(
        self, batch: Batch, *, transforms: Transforms = IDENTITY
    ) -> tuple[Tensor, Tensor]:
        """Embed the valid crops of a batch.

        Returns:
            ``vectors [B, T, N, width]``, 0 where there is no face, and ``valid [B, T, N]``. With
            ``lips`` a last column has the movement of the lips.
        """
        faces, valid = batch["faces"], batch["face_mask"]
        if not faces.shape[-2:].numel():  # crops without a pixel hold no face
            valid = torch.zeros_like(valid)
        x = torch.zeros(*valid.shape, self.width, device=faces.device)
        if valid.any():
            crops = faces[valid]
            if self.training:
                images = crops.float() / 255
                if transforms.faces is not None:
                    images = transforms.faces(images, valid.nonzero()[:, 0])
                vectors = self.embed(images)
            else:
                pieces = torch.split(crops, PIECE)
                vectors = torch.cat([self.embed_mirrored(p.float() / 255) for p in pieces])
            x[valid] = vectors.float()
        if "lips" in self.statistics:
            x = torch.cat([x, lip_movement(faces, valid).unsqueeze(-1)], dim=-1)
        return x, valid

    def pool_crops(self, vectors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Turn ``vectors [B, T, N, D]`` of `embed_crops` into steps and their mask.

        Returns:
            ``x [B, T, D]``, 0 in steps without a face, and ``mask [B, T]``.
        """
        vectors, lips = vectors[..., : self.width], vectors[..., self.width :]
        mean, steps = step_means(vectors, valid)
        parts = []
        for name in self.statistics:
            if name == "mean":
                parts.append(mean)
            elif name == "deviation":
                parts.append(_deviations(vectors, valid, mean))
            elif name == "centred":
                own = self.person_mean
                centred = mean - (RunningCentre()(mean, steps) if own is None else own)
                parts.append(torch.where(steps.unsqueeze(-1), centred, 0.0))
            else:
                known = valid & ~lips.squeeze(-1).isnan()
                moved, _ = step_means(lips, known)
                parts += [moved, _deviations(lips, known, moved)]
        return torch.cat(parts, dim=-1), steps

    @torch.no_grad()
    def fold_norms(self) -> None:
        """Put batch norms into the convolutions before them: a quarter less time, same vectors.

        Nothing changes if the vectors of noise would differ. Weights that were folded can't be
        saved or trained any more.
        """
        if not any(isinstance(module, nn.BatchNorm2d) for module in self.modules()):
            return
        seeded = torch.Generator().manual_seed(0)
        images = torch.rand(2, 3, 112, 112, generator=seeded).to(device_of(self))
        folded = cast(FaceEncoder, fold_batch_norms(self))
        before, after = self.eval().embed(images), folded.embed(images)
        if (before - after).abs().max() < _SAME * before.abs().max():
            self._modules = folded._modules

    def embed_mirrored(self, images: Tensor) -> Tensor:
        """Embed images and, if `mirror`, average with their mirror images."""
        vectors = self.embed(images)
        return (vectors + self.embed(images.flip(-1))) / 2 if self.mirror else vectors


def step_means(vectors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each step's valid ``vectors [B, T, N, D]`` under ``valid [B, T, N]``.

    Returns:
        ``[B, T, D]``, 0 in steps without any, and the mask ``[B, T]`` of the others.
    """
    shown = valid.unsqueeze(-1)
    total = torch.where(shown, vectors.float(), 0.0).sum(dim=2)
    return total / shown.sum(dim=2).clamp(min=1), valid.any(dim=2)


def _deviations(vectors: Tensor, valid: Tensor, mean: Tensor) -> Tensor:
    """Deviation of each step's valid vectors from their mean ``[B, T, D]``."""
    shown = valid.unsqueeze(-1)
    apart = torch.where(shown, vectors - mean.unsqueeze(2), 0.0)
    variance = apart.square().sum(dim=2) / shown.sum(dim=2).clamp(min=1)
    moves = variance > 0  # a root's slope is infinite at 0
    return torch.where(moves, variance, 1.0).sqrt() * moves
