"""The decoder of Swin-UNet."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import calculate_drop_path_rates
from torch import Tensor, nn

from mmgfnuc.models.layers.swin import init_linear, swin_blocks
from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead


class PatchExpand(nn.Module):
    """Linear layer to `scale**2` times `out_channels`, laid out as `scale` x `scale` tokens, then layer norm.

    Shape:
        (B, H, W, in_channels) -> (B, scale * H, scale * W, out_channels)

    Source: Cao et al. 2021, "Swin-Unet", section 3.5 (Patch expanding layer).
    """

    def __init__(self, in_channels: int, out_channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.expand = nn.Linear(in_channels, scale**2 * out_channels, bias=False)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Trade channels for resolution."""
        # (B, H, W, s, s, C) -> (B, H, s, W, s, C)
        tokens = self.expand(x).unflatten(-1, (self.scale, self.scale, -1)).transpose(2, 3)
        return self.norm(tokens.flatten(3, 4).flatten(1, 2))


class SwinUpBlock(nn.Module):
    """Patch expanding by 2, cropped to the skip's size, joined with it by a linear layer, then Swin blocks.

    Shape:
        deep (B, h, w, deep_channels), skip (B, H, W, skip_channels), H <= 2h, W <= 2w -> (B, H, W, skip_channels)
    """

    def __init__(
        self, deep_channels: int, skip_channels: int, num_heads: int, window_size: int, drop_path: Sequence[float]
    ) -> None:
        super().__init__()
        self.up = PatchExpand(deep_channels, skip_channels, 2)
        self.join = nn.Linear(2 * skip_channels, skip_channels)
        self.blocks = swin_blocks(skip_channels, num_heads, window_size, drop_path)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Decode one level."""
        height, width = skip.shape[1:3]
        up = self.up(deep)[:, :height, :width]
        return self.blocks(self.join(torch.cat([up, skip], dim=-1)))


@MODELS.register_module()
class SwinUNetHead(PyramidDecodeHead):
    """Swin-UNet decoder: patch expanding, skips and Swin blocks up to level 0, then one patch expanding beyond it.

    The last one goes to the image: by s, the stride of level 0, which is 4 in Swin-UNet. Any pyramid is taken whose
    levels halve in size.

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        depth: Swin blocks of each level.
        head_dim: channels per attention head; a level has max(1, channels // head_dim) heads: 3, 6, 12 by default.
        window_size: side of an attention window (tokens).
        drop_path_rate: probability that a sample skips a residual branch in training, rising with the level as in the
            encoder, to this in the last block of the deepest level.
        kwargs: see PyramidDecodeHead.

    Shape:
        level i: (B, in_channels[i], H_i, W_i), H_i = ceil(H_0 / 2**i)
        -> (B, num_classes, s H_0, s W_0)

    Source: Cao et al. 2021, "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation", section 3.5.
    """

    halving = True

    def __init__(
        self,
        in_channels: Sequence[int],
        depth: int = 2,
        head_dim: int = 32,
        window_size: int = 7,
        drop_path_rate: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, channels=in_channels[0], **kwargs)
        # No bias, as in the authors' code.
        self.conv_seg = nn.Conv2d(self.channels, self.out_channels, 1, bias=False)
        rates = calculate_drop_path_rates(drop_path_rate, [depth] * len(in_channels), stagewise=True)
        self.up_blocks = nn.ModuleList(
            SwinUpBlock(
                in_channels[level + 1],
                in_channels[level],
                num_heads=max(1, in_channels[level] // head_dim),
                window_size=window_size,
                drop_path=rates[level],
            )
            for level in reversed(range(len(in_channels) - 1))
        )
        self.norm = nn.LayerNorm(self.channels)
        self.final_expand = PatchExpand(self.channels, self.channels, self.first_stride)
        self.apply(init_linear)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        *skips, x = (level.permute(0, 2, 3, 1) for level in self._transform_inputs(inputs))
        for up_block, skip in zip(self.up_blocks, reversed(skips), strict=True):
            x = up_block(x, skip)
        return self.cls_seg(self.final_expand(self.norm(x)).permute(0, 3, 1, 2))
