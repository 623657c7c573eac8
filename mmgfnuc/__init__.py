"""Modular nuclei segmentation: U-Net variants x foundation encoders x fusion blocks, as MMEngine components."""

import warnings
from typing import TYPE_CHECKING

from mmgfnuc.lazy import lazy_exports

if TYPE_CHECKING:
    from mmgfnuc.datasets.samples import sample_image
    from mmgfnuc.inference.predictor import load
    from mmgfnuc.inference.ready import list_ready
    from mmgfnuc.models.create import create_model, list_foundation, list_fusions, list_heads, list_unets
    from mmgfnuc.models.register import register_encoder, register_fusion, register_head, register_unet

__version__ = '0.1.0'
__all__ = [
    'create_model',
    'list_foundation',
    'list_fusions',
    'list_heads',
    'list_ready',
    'list_unets',
    'load',
    'register_encoder',
    'register_fusion',
    'register_head',
    'register_unet',
    'sample_image',
]

# Both are raised while OpenMMLab packages are imported or built, and neither is about anything used here:
# no compiled mmcv op is needed, and two softmax channels (background, nucleus) are this project's contract.
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
warnings.filterwarnings('ignore', message='For binary segmentation, we suggest using')


# On first use, because it imports PyTorch and MMSegmentation, which a look at the version does not need.
__getattr__ = lazy_exports(
    __name__,
    {
        'datasets.samples': ['sample_image'],
        'inference.predictor': ['load'],
        'inference.ready': ['list_ready'],
        'models.create': ['create_model', 'list_foundation', 'list_fusions', 'list_heads', 'list_unets'],
        'models.register': [name for name in __all__ if name.startswith('register_')],
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
