"""Bilinear resizing of feature maps."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, pixels as areas; a map that has the size already is returned as it is.

    Shape:
        (B, C, h, w) -> (B, C, *size)
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode='bilinear', align_corners=False)


def upsample(x: Tensor, scale: int) -> Tensor:
    """Resize by a whole factor.

    Shape:
        (B, C, H, W) -> (B, C, scale * H, scale * W)
    """
    return resize(x, [scale * side for side in x.shape[-2:]])
