"""Brings foundation features to the grid of a local level."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.models.layers import MaxBlurPool

# Pixels of the target grid per feature pixel, for rows and for columns.
Step = tuple[float, float]
# Keeps a product of a size and a step from ending just below a whole number.
ROUNDING = 1 + 1e-9


class ContextAdapter(nn.Module):
    """Resample foundation features to a given grid and join their channels; nothing is learned.

    A feature at least twice too fine is halved by max-blur-pools, the rest is bilinear. SAM's 64x64 embedding thus
    reaches a 16x16 bottleneck by exactly two max-blur-pools, as in the released fusion block.

    Feature and grid begin at one corner of the image, and may end at different places (by the padding of each): pixel i
    of the grid, whose centre lies `(i + 1/2) / step` feature pixels from there, is taken at just that place.

    Args:
        blur_padding: border of the max-blur-pools, `replicate` or `zeros` (the authors' release), see BlurPool.

    Shape:
        feature j: (B, D_j, h_j, w_j), step j -> (B, sum(D_j), *size)

    Source: docs/method.md, section "The Gated Fusion Block".
    """

    def __init__(self, blur_padding: str = 'replicate') -> None:
        super().__init__()
        self.halve = MaxBlurPool(blur_padding)

    def resample(self, feature: Tensor, size: tuple[int, int], step: Step) -> Tensor:
        """Resample one feature map."""
        while max(step) <= 0.5:
            feature, step = self.halve(feature), (2 * step[0], 2 * step[1])
        if step != (1, 1):
            scale = (step[0] * ROUNDING, step[1] * ROUNDING)
            # `recompute_scale_factor=False`: by exactly these factors, not by the ratio of the whole sizes.
            feature = F.interpolate(
                feature, scale_factor=scale, mode='bilinear', align_corners=False, recompute_scale_factor=False
            )
        bottom, right = (max(wanted - own, 0) for wanted, own in zip(size, feature.shape[-2:], strict=True))
        if bottom or right:
            feature = F.pad(feature, (0, right, 0, bottom), mode='replicate')
        return feature[..., : size[0], : size[1]]

    def forward(self, context: Sequence[Tensor], size: tuple[int, int], steps: Sequence[Step]) -> Tensor:
        """Resample all and join."""
        resampled = [self.resample(feature, size, step) for feature, step in zip(context, steps, strict=True)]
        return torch.cat(resampled, dim=1)
