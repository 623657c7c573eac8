"""Fusion without gate and attention: the controls `concat` and `add`."""

import torch
from torch import Tensor, nn

from mmgfnuc.models.layers import ConvNormAct
from mmgfnuc.registry import MODELS

from .base import FusionBlock
from .context_adapter import Step


@MODELS.register_module()
class AddFusionBlock(FusionBlock):
    """Project the context to the channels of the level and add it.

    Shape:
        local (B, C, H, W), context (B, D, H, W) -> (B, C, H, W)

    Source: docs/method.md, section "Fusions and controls".
    """

    def __init__(self, in_channels: int, context_channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(context_channels, in_channels, 1)

    def forward(self, local: Tensor, context: Tensor, step: Step | None = None) -> Tensor:
        """Fuse one level."""
        return local + self.project(context)


@MODELS.register_module()
class ConcatFusionBlock(AddFusionBlock):
    """Project the context to the channels of the level, concatenate, 3x3 convolution.

    Shape:
        local (B, C, H, W), context (B, D, H, W) -> (B, C, H, W)

    Source: docs/method.md, section "Fusions and controls".
    """

    def __init__(self, in_channels: int, context_channels: int) -> None:
        super().__init__(in_channels, context_channels)
        self.convolve = ConvNormAct(2 * in_channels, in_channels)

    def forward(self, local: Tensor, context: Tensor, step: Step | None = None) -> Tensor:
        """Fuse one level."""
        return self.convolve(torch.cat([local, self.project(context)], dim=1))
