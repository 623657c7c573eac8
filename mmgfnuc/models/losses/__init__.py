from .dice_focal import DiceFocalLoss
from .instance_cues import DistanceLoss, HoverLoss

__all__ = ['DiceFocalLoss', 'DistanceLoss', 'HoverLoss']
