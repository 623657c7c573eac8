from .attention_unet_head import AttentionUNetHead
from .awgunet_head import AWGUNetHead
from .base import PyramidDecodeHead
from .building import build_auxiliary_heads
from .ddunet_head import DDUNetHead
from .instance_heads import AuxiliaryDecoderHead, BoundaryHead, DualDecoderHead, HoverHead, InstanceHead, SemanticHead
from .swin_unet_head import SwinUNetHead
from .transunet_head import TransUNetHead
from .u2net_head import U2NetHead
from .uctransnet_head import UCTransNetHead
from .unet3plus_head import UNet3PlusHead
from .unet_head import UNetHead
from .unetplusplus_head import UNetPlusPlusHead
from .unext_head import UNeXtHead

__all__ = [
    'AWGUNetHead',
    'AttentionUNetHead',
    'AuxiliaryDecoderHead',
    'BoundaryHead',
    'DDUNetHead',
    'DualDecoderHead',
    'HoverHead',
    'InstanceHead',
    'PyramidDecodeHead',
    'SemanticHead',
    'SwinUNetHead',
    'TransUNetHead',
    'U2NetHead',
    'UCTransNetHead',
    'UNeXtHead',
    'UNet3PlusHead',
    'UNetHead',
    'UNetPlusPlusHead',
    'build_auxiliary_heads',
]
