from .data_preprocessor import NucleiDataPreprocessor
from .gated_fusion_segmentor import GatedFusionSegmentor
from .tiling import tiled_forward

__all__ = ['GatedFusionSegmentor', 'NucleiDataPreprocessor', 'tiled_forward']
