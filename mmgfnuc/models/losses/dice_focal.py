"""The paper's training loss."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS


def dice_loss(
    probabilities: Tensor, one_hot: Tensor, valid: Tensor, class_weight: Tensor, per_image: bool, smooth: float = 1.0
) -> Tensor:
    """One minus the soft Dice coefficient, `(2 sum(p t) + s) / (sum(p) + sum(t) + s)`, averaged over classes.

    Args:
        probabilities: softmax output.
        one_hot: truth.
        valid: weight of each pixel, 0 where it is ignored.
        class_weight: of each class in the average.
        per_image: take the sums over each image and average, instead of over the whole batch.
        smooth: added to numerator and denominator, so that an absent class that is not predicted costs nothing.

    Shape:
        probabilities, one_hot: (B, K, H, W); valid: (B, 1, H, W); class_weight: (K,); result: scalar
    """
    dims = (2, 3) if per_image else (0, 2, 3)
    intersection = (probabilities * one_hot * valid).sum(dims)
    total = ((probabilities + one_hot) * valid).sum(dims)
    dice = (2 * intersection + smooth) / (total + smooth)
    weight = class_weight.expand_as(dice)
    return 1 - (dice * weight).sum() / weight.sum()


def focal_loss(log_probabilities: Tensor, one_hot: Tensor, valid: Tensor, gamma: float) -> Tensor:
    """Weighted mean over the pixels of `-(1 - p_t)**gamma log(p_t)`, p_t the probability of the true class.

    Shape:
        log_probabilities, one_hot: (B, K, H, W); valid: (B, 1, H, W); result: scalar

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 4 (no alpha).
    """
    log_pt = (log_probabilities * one_hot).sum(1, keepdim=True)
    per_pixel = -((1 - log_pt.exp()) ** gamma) * log_pt * valid
    total = valid.sum()
    # A batch whose pixels have no weight has none to average over: its loss is 0, with a gradient of 0.
    return per_pixel.sum() / total.where(total > 0, 1)


@MODELS.register_module()
class DiceFocalLoss(nn.Module):
    """`dice_weight * Dice + focal_weight * focal` over softmax channels; pixels of `ignore_index` do not count.

    Class weights `w` make both terms weighted means, so that only their ratios matter, and equal ones change nothing:
    `Dice = sum_k w_k (1 - D_k) / sum_k w_k` over the classes k, and `focal = sum_i w_(y_i) f_i / sum_i w_(y_i)` over
    the pixels i with the true classes y_i, as PyTorch's and MMSegmentation's cross entropy averages.

    Args:
        dice_weight: weight of the Dice term.
        focal_weight: weight of the focal term.
        gamma: focusing exponent of the focal term.
        dice_per_image: Dice per image, averaged, instead of over the batch. Then the loss of a batch is the mean
            of the losses of its parts, whatever the number of processes (without class weights).
        class_weight: one for each channel, at least 0, as [1, 5, 20]: the background, then the nucleus or its types,
            with BoundaryHead the boundary as the last.
        loss_name: its key in the log.

    Shape:
        logits (B, K, H, W), target (B, H, W) with class indices or 255 -> scalar

    Raises:
        UserError: `gamma` or `class_weight` is out of range; or there are other classes than weights.

    Source: docs/method.md, section "Loss and training". Weights in both terms: MONAI's DiceFocalLoss.
    """

    def __init__(
        self,
        dice_weight: float = 0.5,
        focal_weight: float = 0.5,
        gamma: float = 2.0,
        dice_per_image: bool = False,
        class_weight: Sequence[float] | None = None,
        loss_name: str = 'loss_dice_focal',
    ) -> None:
        super().__init__()
        if not (gamma == 0 or gamma >= 1):
            raise UserError(f'gamma={gamma}: give 0 or at least 1, the gradient of a certain pixel is infinite between')
        if class_weight is not None and not (min(class_weight, default=-1) >= 0 < sum(class_weight) < math.inf):
            raise UserError(f'class_weight={class_weight}: give numbers of at least 0, not all of them 0')
        self.dice_weight = dice_weight
        self.focal_weight = focal_weight
        self.gamma = gamma
        self.dice_per_image = dice_per_image
        self.class_weight = class_weight
        self.loss_name = loss_name

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = 255) -> Tensor:
        """Compute the loss; `weight` (B, H, W) scales pixels, as MMSegmentation's pixel samplers ask for."""
        # Sums over 65,536 pixels overflow half precision.
        logits = logits.float()
        keep = target != ignore_index
        valid = (keep if weight is None else keep * weight).unsqueeze(1).to(logits.dtype)
        one_hot = F.one_hot(target.where(keep, 0), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        class_weight = self._class_weight(logits)
        log_probabilities = logits.log_softmax(1)
        dice = dice_loss(log_probabilities.exp(), one_hot, valid, class_weight, self.dice_per_image)
        weighted = valid * class_weight[target.where(keep, 0)].unsqueeze(1)
        focal = focal_loss(log_probabilities, one_hot, weighted, self.gamma)
        return self.dice_weight * dice + self.focal_weight * focal

    def _class_weight(self, logits: Tensor) -> Tensor:
        channels = logits.shape[1]
        if self.class_weight is None:
            return logits.new_ones(channels)
        if len(self.class_weight) != channels:
            raise UserError(
                f'class_weight={self.class_weight} has {len(self.class_weight)} weights for {channels} classes; give '
                'one for each'
            )
        return logits.new_tensor(self.class_weight)
