"""Brings foundation features to the grid of a local level."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.models.layers import MaxBlurPool


class ContextAdapter(nn.Module):
    """Resample foundation features to a given grid and join their channels; nothing is learned.

    A grid at least twice too large is halved by max-blur-pools, the rest is bilinear. SAM's 64x64 embedding thus
    reaches a 16x16 bottleneck by exactly two max-blur-pools, as in the released fusion block.

    Shape:
        feature j: (B, D_j, h_j, w_j) -> (B, sum(D_j), *size)

    Source: method.md section 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.halve = MaxBlurPool()

    def resample(self, feature: Tensor, size: tuple[int, int]) -> Tensor:
        """Resample one feature map."""
        while feature.shape[-2] >= 2 * size[0] and feature.shape[-1] >= 2 * size[1]:
            feature = self.halve(feature)
        if tuple(feature.shape[-2:]) == size:
            return feature
        return F.interpolate(feature, size, mode='bilinear', align_corners=False)

    def forward(self, context: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Resample all and join."""
        return torch.cat([self.resample(feature, size) for feature in context], dim=1)
