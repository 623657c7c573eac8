from .data_preprocessor import NucleiDataPreprocessor
from .fusion_segmentor import FusionSegmentor
from .tiling import tiled_forward

__all__ = ['FusionSegmentor', 'NucleiDataPreprocessor', 'tiled_forward']
