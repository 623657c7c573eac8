"""Pictures of a segmentation for the human eye."""

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.drawing import TRUTH_COLOUR, outline

PREDICTION_COLOUR = (255, 225, 0)
IGNORED = 255


def draw_contours(picture: NDArray[np.uint8], semantic: NDArray[np.uint8], colour: tuple[int, int, int]) -> None:
    """Draw the outlines of all nuclei of a semantic map into a picture, one pixel wide, in place.

    Shape:
        picture (H, W, 3) RGB, semantic (H, W): 0 background, 255 ignored
    """
    picture[outline((semantic > 0) & (semantic != IGNORED))] = colour


def draw_overlay(
    image: NDArray[np.uint8], prediction: NDArray[np.uint8], truth: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Outline the truth in green and the prediction, above it, in yellow; ignored areas are darkened.

    Shape:
        image (H, W, 3) RGB, prediction and truth (H, W) semantic maps -> (H, W, 3) RGB
    """
    picture = image.copy()
    if truth is not None:
        picture[truth == IGNORED] //= 2
        draw_contours(picture, truth, TRUTH_COLOUR)
    draw_contours(picture, prediction, PREDICTION_COLOUR)
    return picture
