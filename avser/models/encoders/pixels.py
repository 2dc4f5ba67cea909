"""Face crops as plain pixels, for classical models."""

import torch
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.encoders.faces import FaceEncoder, StepStatistic
from avser.models.frontends.base import full_precision


class PixelEncoder(FaceEncoder):
    """A crop's pixels as a vector. No weights.

    Args:
        size: side in pixels to which crops are resized.
        colour: keep three channels (grey crops are repeated); else the mean of them.
        mirror: see `FaceEncoder`; not useful here: the mean of both images is not a face.
        statistics: see `FaceEncoder`.

    Raises:
        ConfigError: the size is out of its range.
    """

    def __init__(
        self,
        *,
        size: int = 32,
        colour: bool = False,
        mirror: bool = False,
        statistics: tuple[StepStatistic, ...] = ("mean",),
    ) -> None:
        super().__init__(mirror=mirror, statistics=statistics)
        if not 4 <= size <= 256:
            raise ConfigError(f"Bad size {size}: legal is 4 to 256 pixels.")
        self.size, self.colour = size, colour
        self.width = size * size * (3 if colour else 1)

    def embed(self, images: Tensor) -> Tensor:
        """See `FaceEncoder.embed`."""
        with full_precision(images):
            x = images.float()
            x = x.expand(-1, 3, -1, -1) if self.colour else x.mean(dim=1, keepdim=True)
            if x.shape[-2:] != (self.size, self.size):
                x = F.interpolate(
                    x, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
                )
        return torch.flatten(x, 1)
