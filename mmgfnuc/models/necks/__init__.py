from .base import FusionBlock
from .context_adapter import ContextAdapter
from .context_fusion_block import ContextFusionBlock
from .encoder_fusion_neck import EncoderFusionNeck
from .fusion_neck import FusionNeck
from .gated_fusion_block import GatedFusionBlock
from .simple_blocks import AddFusionBlock, ConcatFusionBlock

__all__ = [
    'AddFusionBlock',
    'ConcatFusionBlock',
    'ContextAdapter',
    'ContextFusionBlock',
    'EncoderFusionNeck',
    'FusionBlock',
    'FusionNeck',
    'GatedFusionBlock',
]
