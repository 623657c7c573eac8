from .data_preprocessor import NucleiDataPreprocessor
from .fusion_segmentor import FusionSegmentor, check_test_cfg
from .tiling import tiled_forward

__all__ = ['FusionSegmentor', 'NucleiDataPreprocessor', 'check_test_cfg', 'tiled_forward']
