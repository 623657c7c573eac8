"""The cascaded up-sampler of TransUNet."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mmgfnuc.models.layers import ConvNormAct, DoubleConv, upsample
from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead


@MODELS.register_module()
class TransUNetHead(PyramidDecodeHead):
    """TransUNet's cascaded up-sampler (CUP): a convolution, then at each level up-sampling, skip and two convolutions.

    A last block without skip goes beyond level 0 to the image: by s, the stride of level 0, which is 2 in TransUNet.
    The up-sampling is bilinear, so that the pixels of all maps keep their places in the image. Any pyramid is taken
    whose levels halve in size.

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        deep_channels: of the first convolution; each block has half of the one before: 256, 128, 64.
        channels: of the last block; no block has fewer.
        kwargs: see PyramidDecodeHead.

    Shape:
        level i: (B, in_channels[i], H_i, W_i), H_i = ceil(H_0 / 2**i)
        -> (B, num_classes, s H_0, s W_0)

    Source: Chen et al. 2021, "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", section
    3.2 (Cascaded Upsampler); widths of the authors' configuration `R50-ViT-B_16`.
    """

    halving = True

    def __init__(
        self,
        in_channels: Sequence[int],
        deep_channels: int = 512,
        channels: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, channels=channels, **kwargs)
        self.conv_seg = nn.Conv2d(channels, self.out_channels, 3, padding=1)
        widths = [max(deep_channels // 2**step, channels) for step in range(len(in_channels))]
        self.conv_in = ConvNormAct(in_channels[-1], widths[0])
        self.blocks = nn.ModuleList(
            DoubleConv(deep + skip, width)
            for (deep, width), skip in zip(pairwise(widths), reversed(in_channels[:-1]), strict=True)
        )
        self.final_block = DoubleConv(widths[-1], channels)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        *skips, deepest = self._transform_inputs(inputs)
        x = self.conv_in(deepest)
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            height, width = skip.shape[-2:]
            x = block(torch.cat([upsample(x, 2)[..., :height, :width], skip], dim=1))
        return self.cls_seg(self.final_block(upsample(x, self.first_stride)))
