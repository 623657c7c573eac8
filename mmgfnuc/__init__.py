"""Modular nuclei segmentation: U-Net variants x foundation encoders x fusion blocks, as MMEngine components."""

import warnings

__version__ = '0.1.0'

# Both are raised while OpenMMLab packages are imported or built, and neither is about anything used here:
# no compiled mmcv op is needed, and two softmax channels (background, nucleus) are this project's contract.
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
warnings.filterwarnings('ignore', message='For binary segmentation, we suggest using')
