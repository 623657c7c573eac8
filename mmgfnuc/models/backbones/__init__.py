from .base import Backbone
from .module_backbone import ModuleBackbone, build_backbone
from .residual_unet_encoder import ResidualUNetEncoder
from .staged import StagedBackbone
from .swin_unet_encoder import SwinUNetEncoder
from .timm_backbone import TimmBackbone
from .transunet_encoder import TransUNetEncoder
from .u2net_encoder import U2NetEncoder
from .unet_encoder import UNetEncoder
from .unext_encoder import UNeXtEncoder

__all__ = [
    'Backbone',
    'ModuleBackbone',
    'ResidualUNetEncoder',
    'StagedBackbone',
    'SwinUNetEncoder',
    'TimmBackbone',
    'TransUNetEncoder',
    'U2NetEncoder',
    'UNeXtEncoder',
    'UNetEncoder',
    'build_backbone',
]
