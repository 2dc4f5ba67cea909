"""Augmentation of face crops in training, on the device, in batches.

Random numbers are drawn per clip: all crops of a clip are mirrored, rotated and lit alike, as in
one recording. Everything is off at 0.
"""

import math
from typing import Self

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.training.mixup import Mixup


def _between(size: int, low: float, high: float, like: Tensor) -> Tensor:
    return low + (high - low) * torch.rand(size, device=like.device)


class ImageAugment(nn.Module):
    """Flip, scale, shift, rotation, light, blur, erasing and mixup of face crops.

    Args:
        enabled: False turns everything off.
        flip: share of clips that are mirrored.
        scale: faces are scaled by a factor from 1 ± scale (above 1 crops, below 1 repeats edges).
        shift: faces are moved by up to this share of the side, each way.
        rotation: faces are rotated by up to this many degrees, each way.
        brightness: added, up to this share of the range, each way.
        contrast: distances from the crop's mean are scaled by a factor from 1 ± contrast.
        erasing: share of clips that lose a rectangle of 2 to 25 % of the crop, filled with the
            crop's mean (Zhong et al., AAAI 2020).
        blur: faces are blurred by a Gaussian with a deviation of up to this share of the side, like
            small, moving or strongly compressed faces of videos.
        mixup: Beta parameter of mixup (Zhang et al. 2018) between crops of two clips; only for nets
            of faces alone, since the audio is not mixed.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        flip: float = 0.5,
        scale: float = 0.15,
        shift: float = 0.08,
        rotation: float = 12.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        erasing: float = 0.0,
        blur: float = 0.0,
        mixup: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (("flip", flip), ("erasing", erasing)):
            if not 0 <= value <= 1:
                raise ConfigError(f"Bad {name} {value}: a share of clips is from 0 to 1.")
        if not 0 <= scale < 1:
            raise ConfigError(f"Bad scale {scale}: legal is 0 (off) up to, not including, 1.")
        if not 0 <= blur <= 0.25:
            raise ConfigError(f"Bad blur {blur}: a deviation is a share of the side, 0 to 0.25.")
        self.enabled, self.blur = enabled, blur
        self.flip, self.scale, self.shift, self.rotation = flip, scale, shift, rotation
        self.brightness, self.contrast = brightness, contrast
        self.erasing, self.mixup = erasing, mixup
        self._mixup = Mixup(mixup if enabled else 0.0)

    def draw(self, size: int, like: Tensor, *, present: Tensor | None = None) -> Self:
        """Draw the mixup partners and shares for a batch of ``size``.

        Args:
            size: clips of the batch.
            like: a tensor of the device.
            present: ``[B]``, clips with a face; the others are not mixed.
        """
        self._mixup.draw(size, like, present=present)
        return self

    def labels(self, target: Tensor) -> Tensor:
        """Mix soft labels ``[B, K]`` as the batch's faces are mixed."""
        return self._mixup.mix(target)

    def forward(self, images: Tensor, clip: Tensor) -> Tensor:
        """Augment ``images [n, C, H, W]`` from 0 to 1.

        Args:
            images: float32.
            clip: ``[n]`` int64 in rising order: index in the batch of each image's clip.
        """
        if not self.enabled or not len(images):
            return images
        size = int(clip[-1]) + 1
        images = self._move(images, clip, size)
        images = self._light(images, clip, size)
        if self.blur > 0:
            images = self._blur(images, clip, size)
        if self.erasing > 0:
            images = self._erase(images, clip, size)
        return self._mix(images, clip)

    def _move(self, images: Tensor, clip: Tensor, size: int) -> Tensor:
        """Mirror, rotate, scale and shift in one resampling."""
        if not (self.flip or self.scale or self.shift or self.rotation):
            return images
        most = math.radians(self.rotation)
        angle = _between(size, -most, most, images)
        mirror = 1 - 2 * (torch.rand(size, device=images.device) < self.flip).float()
        zoom = 1 / _between(size, 1 - self.scale, 1 + self.scale, images)
        theta = torch.zeros(size, 2, 3, device=images.device)
        # rows say where in the old image (from -1 to 1) a pixel of the new one is taken from
        theta[:, 0, 0], theta[:, 0, 1] = zoom * angle.cos() * mirror, -zoom * angle.sin()
        theta[:, 1, 0], theta[:, 1, 1] = zoom * angle.sin() * mirror, zoom * angle.cos()
        theta[:, 0, 2] = _between(size, -2 * self.shift, 2 * self.shift, images)
        theta[:, 1, 2] = _between(size, -2 * self.shift, 2 * self.shift, images)
        grid = F.affine_grid(theta[clip], list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _light(self, images: Tensor, clip: Tensor, size: int) -> Tensor:
        if not (self.brightness or self.contrast):
            return images
        factor = _between(size, 1 - self.contrast, 1 + self.contrast, images)[clip]
        offset = _between(size, -self.brightness, self.brightness, images)[clip]
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        changed = (images - mean) * factor[:, None, None, None] + mean
        return (changed + offset[:, None, None, None]).clamp(0, 1)

    def _blur(self, images: Tensor, clip: Tensor, size: int) -> Tensor:
        """Blur along both axes, each crop by its clip's own kernel."""
        side, channels = images.shape[-1], images.shape[1]
        deviation = _between(size, 0.0, self.blur * side, images).clamp(min=1e-3)[clip]
        reach = max(1, math.ceil(2 * self.blur * side))
        place = torch.arange(-reach, reach + 1, device=images.device)
        kernel = (-0.5 * (place / deviation[:, None]).square()).exp()
        kernel = repeat(kernel / kernel.sum(dim=1, keepdim=True), "n k -> (n c) k", c=channels)
        flat = rearrange(images, "n c h w -> 1 (n c) h w")
        flat = F.pad(flat, (reach, reach, reach, reach), mode="replicate")
        for axes in ("k p -> k 1 p 1", "k p -> k 1 1 p"):
            flat = F.conv2d(flat, rearrange(kernel, axes), groups=len(kernel))
        return rearrange(flat, "1 (n c) h w -> n c h w", c=channels)

    def _erase(self, images: Tensor, clip: Tensor, size: int) -> Tensor:
        height, width = images.shape[-2:]
        area = _between(size, 0.02, 0.25, images)
        ratio = _between(size, -1, 1, images).exp()  # of height to width, about 1/3 to 3
        hit = torch.rand(size, device=images.device) < self.erasing
        inside = []
        for length, share in ((height, (area * ratio).sqrt()), (width, (area / ratio).sqrt())):
            extent = share.clamp(max=1) * length
            start = torch.rand(size, device=images.device) * (length - extent)
            place = torch.arange(length, device=images.device) + 0.5
            inside.append((place >= start[:, None]) & (place < (start + extent)[:, None]))
        hole = inside[0][:, None, :, None] & inside[1][:, None, None, :] & hit[:, None, None, None]
        return torch.where(hole[clip], images.mean(dim=(2, 3), keepdim=True), images)

    def _mix(self, images: Tensor, clip: Tensor) -> Tensor:
        """Mix the k-th crop of a clip with the k-th of its partner, modulo the partner's number."""
        partner, share = self._mixup.partner, self._mixup.share
        if partner is None or share is None:
            return images
        count = torch.bincount(clip, minlength=len(partner))
        start = count.cumsum(0) - count
        other = partner[clip]
        place = torch.arange(len(clip), device=clip.device) - start[clip]
        share = share[clip][:, None, None, None]
        return share * images + (1 - share) * images[start[other] + place % count[other]]
