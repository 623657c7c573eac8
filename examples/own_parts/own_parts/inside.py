"""A head that learns the insides of nuclei, and the loss of its auxiliary map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.models.decode_heads import AuxiliaryDecoderHead

INSIDE = 1


class InsideLoss(nn.Module):
    """Binary cross-entropy of the insides, over the pixels that are not ignored.

    Shape:
        prediction (B, 1, H, W) logits, truth (B, 1, H, W) as BoundaryTarget makes it, classes (B, 1, H, W) with 255
        where ignored -> scalar
    """

    loss_name = 'loss_inside'

    def forward(self, prediction: Tensor, truth: Tensor, classes: Tensor, ignore_index: int = 255) -> Tensor:
        """Compute the loss."""
        valid = (classes != ignore_index).float()
        inside = (truth == INSIDE).float()
        losses = F.binary_cross_entropy_with_logits(prediction.float(), inside, valid, reduction='sum')
        return losses / valid.sum().clamp(min=1)


class InsideHead(AuxiliaryDecoderHead):
    """Classes and, by a second decoder, the probability that a pixel is not on the boundary of its nucleus."""

    num_auxiliary = 1
    target = dict(type='mmgfnuc.BoundaryTarget', key='gt_boundary_map')
    post_processor = 'mmgfnuc.DistanceInstances'
    learned_by = InsideLoss

    def activate(self, maps: Tensor) -> Tensor:
        """Turn logits into probabilities."""
        logits, inside = maps.float().split([self.num_classes, 1], dim=1)
        return torch.cat([logits.softmax(1), inside.sigmoid()], dim=1)
