from .dice_focal import DiceFocalLoss

__all__ = ['DiceFocalLoss']
