"""The decoder side of DDU-Net: dilated convolution attention, a main and a small decoder."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers.cbam import CbamModule
from torch import Tensor, nn

from mmgfnuc.models.layers import ConvNormAct
from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead, check_depth
from .unet_head import InterpolationUpBlock

# Of the cascade, as in the centre part of D-LinkNet (Zhou et al. 2018).
DILATIONS = (1, 2, 4, 8)
# A level of the small decoder has this many times fewer channels than the main decoder's.
SMALL_DIVISOR = 4


class DilatedConvolutionAttention(nn.Module):
    """DCAM: a cascade of dilated convolutions beside global average pooling, an attention module (CBAM) on each branch.

    The output of every convolution of the cascade is a branch, so that the branches see 3x3, 7x7, 15x15 and 31x31
    pixels of the level; one more branch sees the average of all pixels. The branches are joined and projected back.

    Shape:
        (B, channels, H, W) -> (B, channels, H, W)

    Source: see DDUNetHead; CBAM: Woo et al. 2018, through timm.
    """

    def __init__(self, channels: int, branch_channels: int) -> None:
        super().__init__()
        widths = [channels] + [branch_channels] * len(DILATIONS)
        self.cascade = nn.ModuleList(
            ConvNormAct(widths[i], widths[i + 1], dilation=dilation) for i, dilation in enumerate(DILATIONS)
        )
        # Without a norm: a batch of one image would leave it a single value.
        self.pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, branch_channels, 1), nn.ReLU(inplace=True)
        )
        branches = len(DILATIONS) + 1
        # At least 8 hidden units: of fewer, a narrow branch may have none that the ReLU leaves on.
        self.attentions = nn.ModuleList(CbamModule(branch_channels, rd_divisor=8) for _ in range(branches))
        self.project = ConvNormAct(branches * branch_channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Gather all scales of a map."""
        branches = []
        dilated = x
        for conv in self.cascade:
            dilated = conv(dilated)
            branches.append(dilated)
        branches.append(self.pool(x).expand_as(dilated))
        attended = [attend(branch) for attend, branch in zip(self.attentions, branches, strict=True)]
        return self.project(torch.cat(attended, dim=1))


class SkipDecoder(nn.Module):
    """From the deepest map up: resize to the skip (bilinear), join with it, two convolutions, to `widths[i]` channels.

    Shape:
        deepest (B, deep_channels, h, w), skip i (B, skip_channels[i], H_i, W_i) -> (B, widths[0], H_0, W_0)

    Source: Ronneberger et al. 2015, "U-Net", figure 1.
    """

    def __init__(self, deep_channels: int, skip_channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        deeps = [*widths[1:], deep_channels]
        stages = [InterpolationUpBlock(*channels) for channels in zip(deeps, skip_channels, widths, strict=True)]
        self.stages = nn.ModuleList(reversed(stages))

    def forward(self, deepest: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Decode, given the skips shallow first."""
        x = deepest
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            x = stage(x, skip)
        return x


@MODELS.register_module()
class DDUNetHead(PyramidDecodeHead):
    """Dual decoder of DDU-Net: dilated convolution attention at the bottleneck, a main and a small decoder, merged.

    What the paper's abstract says is built as it says: a U-Net; between encoder and decoders a module (DCAM) of
    cascaded dilated convolutions and global average pooling, with CBAM in its parallel branches; a small decoder added
    to form a dual decoder. This head is written from the abstract, no release of the authors was found, and what it
    leaves open is chosen here:

    - encoder: any; in the preset that of the original U-Net;
    - DCAM: dilations 1, 2, 4, 8 with every step of the cascade as a branch, as in D-LinkNet, which the paper compares
      with; `dcam_channels` per branch, 256 as in the pyramid pooling of DeepLabv3; joined and projected by a 1x1
      convolution to the width of the bottleneck;
    - both decoders take the DCAM's output and all skips; the main one has U-Net's widths, the small one a quarter;
    - merging: the last maps of both are joined before the classifier, so that one loss trains both.

    Numbers published for DDU-Net are therefore no target for this head.

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        dcam_channels: channels of each branch of the dilated convolution attention module.
        kwargs: see PyramidDecodeHead.

    Shape:
        level i: (B, in_channels[i], H_i, W_i) -> (B, num_classes, H_0, W_0)

    Raises:
        UserError: the pyramid has a single level, hence nothing to decode.

    Source: Wang et al. 2022, "DDU-Net: Dual-Decoder-U-Net for Road Extraction Using High-Resolution Remote Sensing
    Images" (IEEE TGRS, arXiv 2201.06750), abstract.
    """

    def __init__(self, in_channels: Sequence[int], dcam_channels: int = 256, **kwargs: Any) -> None:
        check_depth(in_channels)
        *skips, deepest = in_channels
        small = [max(width // SMALL_DIVISOR, 1) for width in skips]
        super().__init__(in_channels=in_channels, channels=skips[0] + small[0], **kwargs)
        self.dcam = DilatedConvolutionAttention(deepest, dcam_channels)
        self.main_decoder = SkipDecoder(deepest, skips, skips)
        self.small_decoder = SkipDecoder(deepest, skips, small)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        *skips, deepest = self._transform_inputs(inputs)
        context = self.dcam(deepest)
        decoded = [decoder(context, skips) for decoder in (self.main_decoder, self.small_decoder)]
        return self.cls_seg(torch.cat(decoded, dim=1))
