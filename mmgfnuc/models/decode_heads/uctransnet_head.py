"""The decoder of UCTransNet: skips that a channel transformer fuses, gated by what the decoder holds."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.models.layers import DoubleConv
from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead
from .channel_transformer import ChannelTransformer


class SkipGate(nn.Module):
    """Channel-wise cross-attention (CCA): the decoder says which channels of a skip count.

    `relu(skip * sigmoid((L_s GAP(skip) + L_d GAP(deep)) / 2))`, GAP: the average over all pixels.

    Shape:
        deep (B, deep_channels, H, W), skip (B, skip_channels, H, W) -> (B, skip_channels, H, W)

    Source: Wang et al. 2022, "UCTransNet", section on CCA; the ReLU from the authors' release.
    """

    def __init__(self, deep_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.from_skip = nn.Linear(skip_channels, skip_channels)
        self.from_deep = nn.Linear(deep_channels, skip_channels)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Gate one skip."""
        gate = (self.from_skip(skip.mean(dim=(2, 3))) + self.from_deep(deep.mean(dim=(2, 3)))) / 2
        return F.relu(skip * gate.sigmoid()[..., None, None])


class GatedUpBlock(nn.Module):
    """Resize to the skip (nearest), gate the skip, join, two convolutions.

    Shape:
        deep (B, deep_channels, h, w), skip (B, skip_channels, H, W) -> (B, out_channels, H, W)
    """

    def __init__(self, deep_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.gate = SkipGate(deep_channels, skip_channels)
        self.convs = DoubleConv(deep_channels + skip_channels, out_channels)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Decode one level."""
        up = F.interpolate(deep, tuple(skip.shape[-2:]), mode='nearest')
        return self.convs(torch.cat([self.gate(up, skip), up], dim=1))


@MODELS.register_module()
class UCTransNetHead(PyramidDecodeHead):
    """UCTransNet's channel transformer on all skips, and its decoder, any number of levels.

    Every level but the deepest is a skip. A level of the decoder is as wide as the next shallower skip.

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        num_layers: layers of the channel transformer.
        num_heads: heads of its attention; each has all channels.
        attention_dropout: of its embeddings, attention weights and attention outputs.
        kwargs: see PyramidDecodeHead.

    Shape:
        level i: (B, in_channels[i], H_i, W_i) -> (B, num_classes, H_0, W_0)

    Raises:
        UserError: the pyramid has a single level, hence no skip.

    Source: Wang et al. 2022, "UCTransNet: Rethinking the Skip Connections in U-Net from a Channel-wise Perspective
    with Transformer" (arXiv 2109.04335), and the authors' release for what the paper leaves open.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_layers: int = 4,
        num_heads: int = 4,
        attention_dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, channels=in_channels[0], **kwargs)
        *skips, deepest = in_channels
        self.transformer = ChannelTransformer(skips, num_layers, num_heads, attention_dropout)
        outs = [skips[0], *skips[:-1]]
        deeps = [*outs[1:], deepest]
        blocks = [GatedUpBlock(*widths) for widths in zip(deeps, skips, outs, strict=True)]
        self.up_blocks = nn.ModuleList(reversed(blocks))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        *skips, x = self._transform_inputs(inputs)
        for up_block, skip in zip(self.up_blocks, reversed(self.transformer(skips)), strict=True):
            x = up_block(x, skip)
        return self.cls_seg(x)
