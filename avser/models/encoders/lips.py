"""Movement of the lips from one crop of a face to the next, in batches."""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from avser.media.faces.motion import (
    COMPARED_SIDE,
    LEAST_DEVIATION,
    LIPS_PLACE,
    LIPS_REACH,
    MOVING,
)
from avser.models.encoders.grey import to_grey


def lip_movement(faces: Tensor, valid: Tensor) -> Tensor:
    """Movement since the crop before: within a quarter of a second, at two crops a step.

    It is `avser.media.faces.motion.lip_movement`, in units of the movement from which lips are
    taken to move: 1 less the highest normalised correlation of the lips within a few pixels,
    divided by .045. So 0 is a held picture, and over 1 is speech. The crops are compared as they
    are, without augmentation, and no gradient reaches them.

    Args:
        faces: ``[B, T, N, C, H, W]`` uint8, C of 1 or 3 (RGB).
        valid: ``[B, T, N]``.

    Returns:
        ``[B, T, N]`` float32; NaN without a face, and without one before it in this step or the
        one before.
    """
    movement = torch.full(valid.shape, torch.nan, device=valid.device)
    if not valid.any():
        return movement
    each = valid.shape[2]
    shown = rearrange(valid, "b t n -> b (t n)")
    place = torch.arange(shown.shape[1], device=valid.device)
    last = torch.where(shown, place, -1).cummax(dim=1).values
    earlier = F.pad(last[:, :-1], (1, 0), value=-1)  # the last crop before each slot
    near = place // each - earlier // each <= 1
    clip, slot = (shown & (earlier >= 0) & near).nonzero(as_tuple=True)
    if len(clip):
        crops = rearrange(faces, "b t n c h w -> b (t n) c h w")
        before, after = crops[clip, earlier[clip, slot]], crops[clip, slot]
        movement.view(shown.shape)[clip, slot] = _between(_grey(before), _grey(after)) / MOVING
    return movement


def _grey(crops: Tensor) -> Tensor:
    """Whole grey levels, 0 to 255, ``[n, 1, side, side]``."""
    x = to_grey(crops.float())
    if x.shape[-2:] != (COMPARED_SIDE, COMPARED_SIDE):
        side = (COMPARED_SIDE, COMPARED_SIDE)
        x = F.interpolate(x, side, mode="bilinear", antialias=True, align_corners=False)
    return x.round()


def _between(before: Tensor, after: Tensor) -> Tensor:
    """Movement ``[n]`` between grey crops ``[n, 1, side, side]``."""
    top, bottom, left, right = (round(COMPARED_SIDE * share) for share in LIPS_PLACE)
    template = before[..., top:bottom, left:right]
    around = after[
        ..., top - LIPS_REACH : bottom + LIPS_REACH, left - LIPS_REACH : right + LIPS_REACH
    ]
    flat = torch.minimum(_deviation(template), _deviation(around)) < LEAST_DEVIATION
    template = template - template.mean(dim=(2, 3), keepdim=True)
    around = around - around.mean(dim=(2, 3), keepdim=True)
    # each crop is correlated with its own template: one group of the convolution
    product = F.conv2d(around.movedim(0, 1), template, groups=len(template)).movedim(1, 0)
    window, area = template.shape[-2:], template[0].numel()
    mean, square = F.avg_pool2d(around, window, 1), F.avg_pool2d(around.square(), window, 1)
    energy = template.square().sum(dim=(2, 3), keepdim=True) * area * (square - mean.square())
    correlation = (product / energy.clamp(min=1e-6).sqrt()).amax(dim=(1, 2, 3))
    return torch.where(flat, 0.0, 1 - correlation).clamp(min=0)


def _deviation(x: Tensor) -> Tensor:
    return x.std(dim=(1, 2, 3), correction=0)
