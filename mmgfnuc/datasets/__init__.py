from .nuclei import NucleiDataset
from .samplers import SeededSampler
from .transforms import (
    PackNucleiInputs,
    RandomCLAHE,
    RandomGamma,
    RandomHED,
    RandomIntensity,
    RandomOrientation,
    RandomWarpCrop,
    RandStainNA,
    Rescale,
    StainNormalize,
)

__all__ = [
    'NucleiDataset',
    'PackNucleiInputs',
    'RandStainNA',
    'RandomCLAHE',
    'RandomGamma',
    'RandomHED',
    'RandomIntensity',
    'RandomOrientation',
    'RandomWarpCrop',
    'Rescale',
    'SeededSampler',
    'StainNormalize',
]
