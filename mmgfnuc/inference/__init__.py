from mmgfnuc.visualization.overlay import draw_overlay

from .predictor import Nuclei, Predictor
from .preprocessing import Preprocessing

__all__ = ['Nuclei', 'Predictor', 'Preprocessing', 'draw_overlay']
