from .components import connected_components

__all__ = ['connected_components']
