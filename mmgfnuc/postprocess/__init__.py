from .description import Nuclei, describe_instances
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
    'Nuclei',
    'WatershedInstances',
    'describe_instances',
]
