from .nuclei import NucleiDataset
from .samplers import SeededSampler
from .transforms import (
    PackNucleiInputs,
    RandomCLAHE,
    RandomGamma,
    RandomIntensity,
    RandomOrientation,
    RandomWarpCrop,
    Rescale,
)

__all__ = [
    'NucleiDataset',
    'PackNucleiInputs',
    'RandomCLAHE',
    'RandomGamma',
    'RandomIntensity',
    'RandomOrientation',
    'RandomWarpCrop',
    'Rescale',
    'SeededSampler',
]
