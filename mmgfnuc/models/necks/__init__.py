from .context_adapter import ContextAdapter
from .gated_fusion_block import GatedFusionBlock
from .gated_fusion_neck import GatedFusionNeck

__all__ = ['ContextAdapter', 'GatedFusionBlock', 'GatedFusionNeck']
