"""The decoder of the original U-Net."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmgfnuc.models.layers import DoubleConv
from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead


class UpBlock(nn.Module):
    """2x2 transposed convolution, cropped to the skip's size, concatenated with it, then two convolutions.

    Shape:
        deep (B, deep_channels, h, w), skip (B, skip_channels, H, W), H <= 2h, W <= 2w -> (B, skip_channels, H, W)
    """

    def __init__(self, deep_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(deep_channels, skip_channels, 2, stride=2)
        self.convs = DoubleConv(2 * skip_channels, skip_channels)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Decode one level."""
        height, width = skip.shape[-2:]
        up = self.up(deep)[..., :height, :width]
        return self.convs(torch.cat([skip, up], dim=1))


@MODELS.register_module()
class UNetHead(PyramidDecodeHead):
    """U-Net decoder: from the deepest level up, each level doubled in size and joined with its skip.

    Shape:
        level i: (B, in_channels[i], H_i, W_i), H_i = ceil(H_0 / 2**i) -> (B, num_classes, H_0, W_0)

    Source: Ronneberger et al. 2015, "U-Net", figure 1 (padded convolutions, so that nothing is cropped away).
    """

    def __init__(self, in_channels: Sequence[int], **kwargs: Any) -> None:
        super().__init__(in_channels=in_channels, channels=in_channels[0], **kwargs)
        self.up_blocks = nn.ModuleList(
            UpBlock(in_channels[level + 1], in_channels[level]) for level in reversed(range(len(in_channels) - 1))
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        *skips, x = self._transform_inputs(inputs)
        for up_block, skip in zip(self.up_blocks, reversed(skips), strict=True):
            x = up_block(x, skip)
        return self.cls_seg(x)
