"""The decoders of the original U-Net and of the residual U-Net, one level at a time."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mmgfnuc.models.layers import DoubleConv, resize
from mmgfnuc.models.layers.residual import ResidualUnit
from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead


class UpBlock(nn.Module):
    """2x2 transposed convolution, cropped to the skips' size, concatenated with them, then two convolutions.

    Shape:
        deep (B, deep_channels, h, w), `num_skips` skips (B, skip_channels, H, W), H <= 2h, W <= 2w
        -> (B, skip_channels, H, W)
    """

    def __init__(self, deep_channels: int, skip_channels: int, num_skips: int = 1) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(deep_channels, skip_channels, 2, stride=2)
        self.convs = DoubleConv((num_skips + 1) * skip_channels, skip_channels)

    def forward(self, deep: Tensor, *skips: Tensor) -> Tensor:
        """Decode one level."""
        height, width = skips[0].shape[-2:]
        up = self.up(deep)[..., :height, :width]
        return self.convs(torch.cat([*skips, up], dim=1))


class InterpolationUpBlock(nn.Module):
    """Bilinear interpolation to the skip's size, concatenated with it, then two convolutions or a residual unit.

    Shape:
        deep (B, deep_channels, h, w), skip (B, skip_channels, H, W) -> (B, out_channels, H, W)
    """

    def __init__(self, deep_channels: int, skip_channels: int, out_channels: int, residual: bool = False) -> None:
        super().__init__()
        unit = ResidualUnit if residual else DoubleConv
        self.convs = unit(deep_channels + skip_channels, out_channels)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Decode one level."""
        return self.convs(torch.cat([skip, resize(deep, skip.shape[-2:])], dim=1))


@MODELS.register_module()
class UNetHead(PyramidDecodeHead):
    """U-Net decoder: from the deepest level up, each level doubled in size and joined with its skip.

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        residual: the decoder of the residual U-Net: sizes are doubled by interpolation, and a pre-activation residual
            unit takes the place of the two convolutions. (Its paper does not say by which interpolation: bilinear
            here.)
        kwargs: see PyramidDecodeHead.

    Shape:
        level i: (B, in_channels[i], H_i, W_i), H_i = ceil(H_0 / 2**i) -> (B, num_classes, H_0, W_0)

    Source: Ronneberger et al. 2015, "U-Net", figure 1 (padded convolutions, so that nothing is cropped away); with
    `residual` Zhang, Liu, Wang 2018, "Road Extraction by Deep Residual U-Net", table I.
    """

    def __init__(self, in_channels: Sequence[int], residual: bool = False, **kwargs: Any) -> None:
        self.halving = not residual
        super().__init__(in_channels=in_channels, channels=in_channels[0], **kwargs)
        self.up_blocks = nn.ModuleList(
            InterpolationUpBlock(deep, skip, skip, residual=True) if residual else UpBlock(deep, skip)
            for skip, deep in reversed(list(pairwise(in_channels)))
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        *skips, x = self._transform_inputs(inputs)
        for up_block, skip in zip(self.up_blocks, reversed(skips), strict=True):
            x = up_block(x, skip)
        return self.cls_seg(x)
