"""Losses of the auxiliary maps, by which touching nuclei are separated.

Their weights are such that a map of zeros costs about as much as classes that are not learned yet do by DiceFocalLoss,
on NuInsSeg at half its resolution: neither is to rule the encoder that both share.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.registry import MODELS


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over the pixels with weight, all channels alike; 0 with a gradient of 0 where no pixel has any.

    Shape:
        values (B, C, H, W), weight (B, 1, H, W) -> scalar
    """
    return (values * weight).sum() / (weight.sum() * values.shape[1]).clamp(min=1)


def gradient_kernel(size: int = 5) -> Tensor:
    """Kernel whose response to a map is its rise along the columns: offset over squared distance from the centre.

    Shape:
        -> (size, size)

    Source: Graham et al. 2019, doi:10.1016/j.media.2019.101563 (Sobel's operator; size and weights as in the authors'
        program).

    >>> gradient_kernel(3)
    tensor([[-0.5000,  0.0000,  0.5000],
            [-1.0000,  0.0000,  1.0000],
            [-0.5000,  0.0000,  0.5000]])
    """
    offset = torch.arange(size, dtype=torch.float32) - size // 2
    squared = offset[:, None] ** 2 + offset**2
    squared[size // 2, size // 2] = 1
    return offset.expand(size, size) / squared


def rises(hover: Tensor) -> Tensor:
    """Rise of the horizontal map along the columns, and of the vertical map along the rows; the edge is continued.

    Shape:
        (B, 2, H, W) -> (B, 2, H, W)
    """
    along = gradient_kernel().to(hover)
    kernels = torch.stack([along, along.T])[:, None]
    return F.conv2d(F.pad(hover, (2, 2, 2, 2), mode='replicate'), kernels, groups=2)


@MODELS.register_module()
class DistanceLoss(nn.Module):
    """Mean squared error of the distance map over the pixels that are not ignored.

    Args:
        weight: factor on the loss.

    Shape:
        prediction, truth (B, 1, H, W), classes (B, 1, H, W) with 255 where ignored -> scalar

    Source: Mahbod et al. 2022, doi:10.3389/fmed.2022.978146 (second decoder, regression).
    """

    loss_name = 'loss_distance'

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, prediction: Tensor, truth: Tensor, classes: Tensor, ignore_index: int = 255) -> Tensor:
        """Compute the loss."""
        valid = (classes != ignore_index).float()
        return self.weight * masked_mean((prediction.float() - truth) ** 2, valid)


@MODELS.register_module()
class HoverLoss(nn.Module):
    """Mean squared error of the horizontal and vertical maps, and of their rises inside the nuclei.

    `L = weight * (mean (p - t)^2 + rise_weight * mean over the nuclei of (rise p - rise t)^2)`, ignored pixels left out
    of both means, and taken as right where a rise looks at them. The rises make the drop from one nucleus to the next
    sharp.

    Args:
        weight: factor on the loss.
        rise_weight: of the second term.

    Shape:
        prediction, truth (B, 2, H, W), classes (B, 1, H, W) with 255 where ignored -> scalar

    Source: Graham et al. 2019, doi:10.1016/j.media.2019.101563, equations 4 and 5, `rise_weight` as there.
    """

    loss_name = 'loss_hover'

    def __init__(self, weight: float = 0.1, rise_weight: float = 2.0) -> None:
        super().__init__()
        self.weight = weight
        self.rise_weight = rise_weight

    def forward(self, prediction: Tensor, truth: Tensor, classes: Tensor, ignore_index: int = 255) -> Tensor:
        """Compute the loss."""
        valid = classes != ignore_index
        nuclei = valid & (classes > 0)
        # The rise of the difference is the difference of the rises. Taken in this order, ignored pixels do not reach
        # their neighbours, and what autocast rounds is small.
        error = (prediction.float() - truth) * valid
        of_maps, of_rises = masked_mean(error**2, valid.float()), masked_mean(rises(error).float() ** 2, nuclei.float())
        return self.weight * (of_maps + self.rise_weight * of_rises)
