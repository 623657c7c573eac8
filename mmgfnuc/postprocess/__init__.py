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

__all__ = [
    'BoundaryInstances',
    'DistanceInstances',
    'HoverInstances',
    'InstanceDecoder',
    'WatershedInstances',
    'boundary_instances',
    'connected_components',
    'distance_instances',
    'hover_instances',
    'watershed_instances',
]
