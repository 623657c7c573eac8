from .bank import AugmentationBank
from .formatting import PackNucleiInputs, semantic_map
from .geometric import RandomOrientation, RandomWarpCrop, Rescale
from .intensity import RandomCLAHE, RandomGamma, RandomIntensity

__all__ = [
    'AugmentationBank',
    'PackNucleiInputs',
    'RandomCLAHE',
    'RandomGamma',
    'RandomIntensity',
    'RandomOrientation',
    'RandomWarpCrop',
    'Rescale',
    'semantic_map',
]
