from mmgfnuc.visualization.overlay import draw_overlay

from .inferencer import NucleiInferencer, Prediction

__all__ = ['NucleiInferencer', 'Prediction', 'draw_overlay']
