"""Nuclei drawn into a tissue image."""

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.visualization.outline import outline

PREDICTION_COLOUR = (255, 225, 0)


def draw_overlay(image: NDArray[np.uint8], labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Outline each nucleus of a label map in yellow, one pixel wide, inside the nucleus: touching ones stay apart.

    Shape:
        image (H, W, 3) RGB, labels (H, W), 0 = background -> (H, W, 3) RGB
    """
    picture = image.copy()
    picture[outline(labels)] = PREDICTION_COLOUR
    return picture
