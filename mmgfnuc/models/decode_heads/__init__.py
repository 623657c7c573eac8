from .unet3plus_head import UNet3PlusHead
from .unet_head import UNetHead

__all__ = ['UNet3PlusHead', 'UNetHead']
