from .bank import AugmentationBank
from .formatting import PackNucleiInputs, semantic_map
from .geometric import RandomOrientation, RandomWarpCrop, Rescale
from .instance_targets import BoundaryTarget, DistanceTarget, HoverTarget
from .intensity import RandomCLAHE, RandomGamma, RandomIntensity
from .stain import RandomHED, RandStainNA, StainNormalize, lab_statistics

__all__ = [
    'AugmentationBank',
    'BoundaryTarget',
    'DistanceTarget',
    'HoverTarget',
    'PackNucleiInputs',
    'RandStainNA',
    'RandomCLAHE',
    'RandomGamma',
    'RandomHED',
    'RandomIntensity',
    'RandomOrientation',
    'RandomWarpCrop',
    'Rescale',
    'StainNormalize',
    'lab_statistics',
    'semantic_map',
]
