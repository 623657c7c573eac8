from .description import Nuclei, describe_instances
from .postprocessors import (
    BoundaryInstances,
    DistanceInstances,
    HoverInstances,
    InstancePostProcessor,
    WatershedInstances,
    boundary_instances,
    distance_instances,
    hover_instances,
    watershed_instances,
)

__all__ = [
    'BoundaryInstances',
    'DistanceInstances',
    'HoverInstances',
    'InstancePostProcessor',
    'Nuclei',
    'WatershedInstances',
    'boundary_instances',
    'describe_instances',
    'distance_instances',
    'hover_instances',
    'watershed_instances',
]
