from .inferencer import NucleiInferencer
from .overlay import draw_overlay

__all__ = ['NucleiInferencer', 'draw_overlay']
