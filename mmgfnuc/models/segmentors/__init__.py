from .data_preprocessor import NucleiDataPreprocessor
from .fusion_segmentor import TEST_SETTINGS, FusionSegmentor, check_test_cfg
from .tiling import tiled_forward

__all__ = ['TEST_SETTINGS', 'FusionSegmentor', 'NucleiDataPreprocessor', 'check_test_cfg', 'tiled_forward']
