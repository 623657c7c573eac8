from .auxiliary_maps import DistanceLoss, HoverLoss
from .dice_focal import DiceFocalLoss

__all__ = ['DiceFocalLoss', 'DistanceLoss', 'HoverLoss']
