from .postprocessors import (
    BoundaryInstances,
    DistanceInstances,
    HoverInstances,
    InstancePostProcessor,
    WatershedInstances,
)

__all__ = [
    'BoundaryInstances',
    'DistanceInstances',
    'HoverInstances',
    'InstancePostProcessor',
    'WatershedInstances',
]
