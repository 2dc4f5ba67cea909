"""Base class of encoders of face crops."""

from abc import abstractmethod

import torch
from einops import rearrange
from torch import Tensor

from avser.models.encoders.base import VideoEncoder
from avser.models.frontends.base import full_precision
from avser.models.transforms import IDENTITY, Transforms
from avser.types import Batch

#: Crops that are computed together outside of training: bounds memory whatever the clip's length.
PIECE = 512


class FaceEncoder(VideoEncoder):
    """Embeds each valid face crop; a step's vector is the mean over its valid crops.

    Invalid crops are not computed on at all, so neither what they hold nor how a clip is padded
    matters. A subclass sets `dim` and writes `embed`.

    Args:
        mirror: outside of training, embed each crop and its mirror image and take the mean: twice
            the arithmetic for about a point of accuracy.
    """

    def __init__(self, *, mirror: bool = False) -> None:
        super().__init__()
        self.mirror = mirror

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Turn ``images [n, C, H, W]`` float32 from 0 to 1 into vectors ``[n, D]``.

        C is 1 (grey) or 3 (RGB).
        """

    def forward(self, batch: Batch, *, transforms: Transforms = IDENTITY) -> tuple[Tensor, Tensor]:
        """See `VideoEncoder.forward`."""
        faces, valid = batch["faces"], batch["face_mask"]
        size, steps, each = valid.shape
        if not faces.shape[-2:].numel():  # crops without a pixel show nobody
            valid = torch.zeros_like(valid)
        flat = rearrange(faces, "b t n c h w -> (b t n) c h w")
        index = rearrange(valid, "b t n -> (b t n)").nonzero().squeeze(1)
        x = torch.zeros(size * steps, self.dim, device=faces.device)
        if len(index):
            crops = flat[index]
            if self.training:
                images = crops.float() / 255
                if transforms.faces is not None:
                    images = transforms.faces(images, index // (steps * each))
                vectors = self.embed(images)
            else:
                pieces = torch.split(crops, PIECE)
                vectors = torch.cat([self.embed_mirrored(p.float() / 255) for p in pieces])
            with full_precision(x):
                x = x.index_add(0, index // each, vectors.float())
        count = valid.sum(dim=2)
        mean = rearrange(x, "(b t) d -> b t d", b=size, t=steps) / count.clamp(min=1)[..., None]
        return mean, count > 0

    def embed_mirrored(self, images: Tensor) -> Tensor:
        """Embed images and, if `mirror`, average with their mirror images."""
        vectors = self.embed(images)
        return (vectors + self.embed(images.flip(-1))) / 2 if self.mirror else vectors
