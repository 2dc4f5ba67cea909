"""A small residual network for face crops, from scratch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.encoders.faces import FaceEncoder, StepStatistic
from avser.models.encoders.grey import to_grey
from avser.models.frontends.base import full_precision

SIDE = 48  # pixels, as the faces of FER2013


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: scales channels by the image's mean (Hu et al., CVPR 2018).

    Args:
        channels: of input and output.
        reduction: of the hidden layer.
    """

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``[n, C, H, W]``."""
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))))
        return x * gate[:, :, None, None]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a squeeze-and-excitation gate, and a shortcut.

    Args:
        inputs, outputs: channels.
        stride: of the first convolution, and of the average pooling in the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.gate = SqueezeExcite(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(stride))
        if inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Turn ``[n, C, H, W]`` into ``[n, C', H / stride, W / stride]``."""
        y = F.relu(self.first_norm(self.first(x)))
        y = self.gate(self.second_norm(self.second(y)))
        return F.relu(y + self.shortcut(x))


class FaceCnnEncoder(FaceEncoder):
    """A slim residual network over grey faces of 48 x 48 pixels.

    Crops of any size and colour are converted to grey, resized, and normalised to mean 0 and
    deviation 1, against differences of light. The first two convolutions halve the side, since
    layers at full resolution cost most and have the smallest receptive field.

    Args:
        channels: of each stage; every stage after the first halves the side.
        blocks: residual blocks of each stage.
        dropout: on a step's vector, for on each crop's it would look like movement.
        mirror, statistics: see `FaceEncoder`.
    """

    def __init__(
        self,
        *,
        channels: tuple[int, ...] = (32, 64, 128, 160),
        blocks: tuple[int, ...] = (2, 2, 2, 1),
        dropout: float = 0.2,
        mirror: bool = False,
        statistics: tuple[StepStatistic, ...] = ("mean",),
    ) -> None:
        super().__init__(mirror=mirror, statistics=statistics)
        if len(blocks) != len(channels) or not 1 <= len(channels) <= 4:
            raise ConfigError(
                f"Bad blocks {list(blocks)} for channels {list(channels)}: legal is one number a "
                "stage, for 1 to 4 stages; give as many blocks as channels."
            )
        narrow = channels[0] * 3 // 4
        layers: list[nn.Module] = [
            nn.Conv2d(1, narrow, 3, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, channels[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
        ]
        inputs = channels[0]
        for stage, (outputs, count) in enumerate(zip(channels, blocks, strict=True)):
            for block in range(count):
                stride = 2 if stage and not block else 1
                layers.append(ResidualBlock(inputs, outputs, stride=stride))
                inputs = outputs
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.dropout = nn.Dropout(dropout)
        self.width = inputs

    def embed(self, images: Tensor) -> Tensor:
        """See `FaceEncoder.embed`."""
        with full_precision(images):
            x = to_grey(images.float())
            if x.shape[-2:] != (SIDE, SIDE):
                x = F.interpolate(
                    x, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
                )
            variance, mean = torch.var_mean(x, dim=(1, 2, 3), keepdim=True, correction=0)
            x = (x - mean) / (variance + 1e-4).sqrt()
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        vectors: Tensor = x.float().mean(dim=(2, 3))
        return vectors

    def pool_crops(self, vectors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """See `FaceEncoder.pool_crops`."""
        x, steps = super().pool_crops(vectors, valid)
        return self.dropout(x), steps
