"""Data sets: their form on disk, readers, transforms and converters."""

from mmgfnuc.lazy import lazy_exports

EXPORTS = {
    'nuclei': ['NucleiDataset'],
    'samplers': ['SeededSampler'],
    'transforms': [
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
    ],
}
__all__ = [name for names in EXPORTS.values() for name in names]
__getattr__ = lazy_exports(__name__, EXPORTS)
