"""The decoder of UNeXt."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.models.layers import resize, upsample
from mmgfnuc.models.layers.shifted_mlp import TokenizedMLP
from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead

TOKENIZED_STEPS = 2


class UpStep(nn.Module):
    """`mlp(ReLU(up(BN(conv(deep)))) + skip)`: up is bilinear, to the skip's size; mlp only in tokenized steps.

    Shape:
        deep (B, deep_channels, h, w), skip (B, skip_channels, H, W) -> (B, skip_channels, H, W)
    """

    def __init__(self, deep_channels: int, skip_channels: int, tokenized: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(deep_channels, skip_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(skip_channels)
        self.mlp = TokenizedMLP(skip_channels) if tokenized else nn.Identity()

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Decode one level."""
        up = resize(self.norm(self.conv(deep)), skip.shape[-2:])
        return self.mlp(F.relu(up) + skip)


@MODELS.register_module()
class UNeXtHead(PyramidDecodeHead):
    """UNeXt decoder: a convolution per level, up-sampled and added to its skip; the two deepest steps end in an MLP.

    A last convolution is up-sampled to the image: by s, the stride of level 0, which is 2 in UNeXt.

    Shape:
        level i: (B, in_channels[i], H_i, W_i) -> (B, num_classes, s H_0, s W_0)

    Source: Valanarasu and Patel 2022, "UNeXt", section 2 and the authors' code.
    """

    def __init__(self, in_channels: Sequence[int], **kwargs: Any) -> None:
        super().__init__(in_channels=in_channels, channels=in_channels[0], **kwargs)
        levels = reversed(range(len(in_channels) - 1))
        self.steps = nn.ModuleList(
            UpStep(in_channels[level + 1], in_channels[level], tokenized=step < TOKENIZED_STEPS)
            for step, level in enumerate(levels)
        )
        self.last_conv = nn.Conv2d(in_channels[0], in_channels[0], 3, padding=1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        *skips, x = self._transform_inputs(inputs)
        for step, skip in zip(self.steps, reversed(skips), strict=True):
            x = step(x, skip)
        return self.cls_seg(F.relu(upsample(self.last_conv(x), self.first_stride)))
