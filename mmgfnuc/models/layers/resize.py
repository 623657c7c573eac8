"""Resizing of feature maps, and of images and maps around a network."""

from collections.abc import Sequence

import cv2
import torch
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


def resample(x: Tensor, size: Sequence[int], by_area: bool = False) -> Tensor:
    """Resize images or maps of a prediction, by OpenCV on a CPU, where it is faster: equal but for rounding.

    Args:
        x: images or maps.
        size: height and width.
        by_area: average over the area of a pixel, to make things smaller; by default bilinear as `resize`.

    Shape:
        (B, C, h, w) -> (B, C, *size)
    """
    height, width = size
    # By area both agree where an output pixel covers whole pixels.
    alike = not by_area or (x.shape[-2] % height == 0 and x.shape[-1] % width == 0)
    if not alike or x.device.type != 'cpu' or x.dtype != torch.float32 or x.requires_grad:
        return F.interpolate(x, (height, width), mode='area') if by_area else resize(x, size)
    resized = x.new_empty(*x.shape[:2], height, width)
    for source, target in zip(x.flatten(0, 1).numpy(), resized.flatten(0, 1).numpy(), strict=True):
        cv2.resize(source, (width, height), target, interpolation=cv2.INTER_AREA if by_area else cv2.INTER_LINEAR)
    return resized
