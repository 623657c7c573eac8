from .components import connected_components
from .decoders import (
    BoundaryInstances,
    DistanceInstances,
    HoverInstances,
    InstanceDecoder,
    WatershedInstances,
    boundary_instances,
    distance_instances,
    hover_instances,
    watershed_instances,
)
from .description import Nuclei, describe_instances

__all__ = [
    'BoundaryInstances',
    'DistanceInstances',
    'HoverInstances',
    'InstanceDecoder',
    'Nuclei',
    'WatershedInstances',
    'boundary_instances',
    'connected_components',
    'describe_instances',
    'distance_instances',
    'hover_instances',
    'watershed_instances',
]
