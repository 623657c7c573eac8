from mmgfnuc.visualization.overlay import draw_overlay

from .nuclei import Nuclei
from .predictor import Predictor
from .preprocessing import Preprocessing

__all__ = ['Nuclei', 'Predictor', 'Preprocessing', 'draw_overlay']
