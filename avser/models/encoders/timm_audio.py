"""Image networks of timm over the spectrogram of a whole clip."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.encoders.backbone import backbone_dim, check_resizable, create_backbone
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.steps import crop_or_pad, frames_of, repeat_over_steps
from avser.models.frontends.base import Frontend
from avser.models.frontends.conditioning import Conditioning
from avser.models.frontends.normaliser import NormaliserMode
from avser.models.transforms import IDENTITY, Transforms

RANGE = 8.0  # deviations from the mean, four each way, that an image shows


class TimmAudioEncoder(AudioEncoder):
    """Any network of timm over the spectrogram, as an image with a channel for each plane.

    Each clip has the same duration: a longer one is cut to its middle, a shorter one is padded with
    zeros, which are the mean after normalisation. The vector is repeated over the clip's valid
    steps.

    Args:
        frontend, normalise, trim_db, conditioning: see `AudioEncoder`.
        backbone: as timm names it, such as ``resnet18``.
        pretrained: False; True for timm's weights from the hub; or the path of a local file of
            weights. The first layer is adapted to the front end's channels.
        clip_s: duration of the image, in seconds.
        size: rows and columns to which it is resized (bilinear).

    Raises:
        ConfigError: there is no such backbone, its weights can't be loaded, or a size is not
            positive.
    """

    span: Literal["step", "clip"] = "clip"
    makes_image = True

    def __init__(
        self,
        *,
        frontend: Frontend,
        normalise: NormaliserMode = "clip",
        trim_db: float | None = 35.0,
        conditioning: Conditioning = "mean",
        backbone: str = "resnet18",
        pretrained: bool | str = False,
        clip_s: float = 4.0,
        size: tuple[int, int] = (128, 128),
    ) -> None:
        super().__init__(
            frontend=frontend, normalise=normalise, trim_db=trim_db, conditioning=conditioning
        )
        self.frames = frames_of(clip_s, frontend.hop)
        if min(size) < 1:
            raise ConfigError(f"Bad size {list(size)}: legal are sizes of at least 1.")
        self.image_size = size
        self.backbone = create_backbone(
            backbone, channels=frontend.channels, size=size, pretrained=pretrained
        )
        # depthwise convolutions are several times as fast so on processors
        self.backbone = self.backbone.to(memory_format=torch.channels_last)
        self.dim = backbone_dim(self.backbone)

    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.encode`."""
        return self._encode(features, mask, change=None)

    def from_features(
        self,
        features: Tensor,
        mask: Tensor,
        reference: Tensor | None = None,
        *,
        transforms: Transforms = IDENTITY,
    ) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.from_features`; the image of a clip is transformed, too."""
        features, mask = self.normalised(features, mask, reference, transforms=transforms)
        change = transforms.audio_images if self.training else None
        return self._encode(features, mask, change=change)

    def _encode(
        self, features: Tensor, mask: Tensor, *, change: Callable[[Tensor, Tensor], Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Encode the image of each clip, changed by ``change(images, clip)`` where there is one."""
        image = crop_or_pad(features, mask, self.frames)
        image = F.interpolate(image, self.image_size, mode="bilinear")
        if change is not None:
            clip = torch.arange(len(image), device=image.device)
            shown = (image / RANGE + 0.5).clamp(0, 1)
            image = (change(shown, clip) - 0.5) * RANGE
        image = image.contiguous(memory_format=torch.channels_last)
        return repeat_over_steps(self.backbone(image), mask, hop=self.frontend.hop)

    def resize(self, rows: int, columns: int) -> None:
        """Take images of another size from now on.

        Raises:
            ConfigError: the network is built for one size.
        """
        check_resizable(self.backbone)
        self.image_size = (rows, columns)
