from .inferencer import NucleiInferencer, Prediction
from .overlay import draw_overlay

__all__ = ['NucleiInferencer', 'Prediction', 'draw_overlay']
