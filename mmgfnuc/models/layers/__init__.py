from .blur_pool import BlurPool, MaxBlurPool
from .conv import ACTIVATIONS, ConvNormAct, DoubleConv
from .images import Normalize, longest_side_size, pad_to_multiple, reflect_to_size, resize_longest_side
from .resize import resample, resize, upsample

__all__ = [
    'ACTIVATIONS',
    'BlurPool',
    'ConvNormAct',
    'DoubleConv',
    'MaxBlurPool',
    'Normalize',
    'longest_side_size',
    'pad_to_multiple',
    'reflect_to_size',
    'resample',
    'resize',
    'resize_longest_side',
    'upsample',
]
