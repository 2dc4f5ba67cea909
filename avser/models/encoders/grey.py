"""Brightness of pictures in colour."""

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601, as in OpenCV)


def to_grey(images: Tensor) -> Tensor:
    """Brightness ``[n, 1, H, W]`` of images ``[n, C, H, W]``; C is 1 or 3 (RGB)."""
    if images.shape[1] == 1:
        return images
    shares = torch.tensor(_LUMA, device=images.device)
    return (images * shares[:, None, None]).sum(dim=1, keepdim=True)
