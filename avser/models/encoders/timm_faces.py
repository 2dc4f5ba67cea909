"""Image networks of timm for face crops."""

import torch
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.devices import device_of
from avser.models.encoders.backbone import (
    backbone_colour,
    backbone_dim,
    check_resizable,
    create_backbone,
    pad_alike,
)
from avser.models.encoders.faces import FaceEncoder, StepStatistic
from avser.models.encoders.grey import to_grey
from avser.models.frontends.base import full_precision


class TimmFacesEncoder(FaceEncoder):
    """Any network of timm on each face crop.

    Crops are resized inside; grey ones are repeated to three channels. Channels are brought to the
    mean and deviation that the network's weights were trained with.

    Args:
        backbone: as timm names it, such as ``mobilenetv3_small_100``.
        pretrained: False; True for timm's weights from the hub; or the path of a local file of
            weights.
        size: side in pixels to which crops are resized.
        colour: False turns every crop grey. A network that is trained on grey pictures needs that:
            a skin's colour is outside of all that it has learnt.
        mirror, statistics: see `FaceEncoder`.

    Raises:
        ConfigError: there is no such backbone, its weights can't be loaded, or the size is out of
            its range.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        backbone: str = "mobilenetv3_small_100",
        pretrained: bool | str = False,
        size: int = 112,
        colour: bool = True,
        mirror: bool = False,
        statistics: tuple[StepStatistic, ...] = ("mean",),
    ) -> None:
        super().__init__(mirror=mirror, statistics=statistics)
        if not 16 <= size <= 1024:
            raise ConfigError(f"Bad size {size}: legal is 16 to 1024 pixels.")
        self.image_size, self.colour = (size, size), colour
        self.backbone = create_backbone(
            backbone, channels=3, size=(size, size), pretrained=pretrained
        )
        self.width = backbone_dim(self.backbone)
        mean, deviation = backbone_colour(self.backbone)
        # kept with the weights: another release of timm may have another setting for this backbone
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None])

    def embed(self, images: Tensor) -> Tensor:
        """See `FaceEncoder.embed`."""
        with full_precision(images):
            x = images.float()
            x = (x if self.colour else to_grey(x)).expand(-1, 3, -1, -1)
            if x.shape[-2:] != self.image_size:
                x = F.interpolate(
                    x, self.image_size, mode="bilinear", antialias=True, align_corners=False
                )
            x = (x - self.mean) / self.deviation
        # convolutions are a fifth faster over channels
        vectors: Tensor = self.backbone(x.contiguous(memory_format=torch.channels_last))
        return vectors

    @torch.no_grad()
    def fold_norms(self) -> None:
        """See `FaceEncoder.fold_norms`; also spares the copies that unequal padding makes.

        From now on the backbone takes images of the present size alone.
        """
        super().fold_norms()
        pad_alike(self.eval().backbone, torch.zeros(1, 3, *self.image_size, device=device_of(self)))

    def resize(self, rows: int, columns: int) -> None:
        """Take images of another size from now on.

        Raises:
            ConfigError: the network is built for one size.
        """
        check_resizable(self.backbone)
        self.image_size = (rows, columns)
