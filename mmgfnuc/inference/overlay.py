"""Pictures of a segmentation for the human eye."""

import cv2
import numpy as np
from numpy.typing import NDArray

TRUTH_COLOUR = (0, 230, 80)
PREDICTION_COLOUR = (255, 225, 0)
IGNORED = 255


def draw_contours(picture: NDArray[np.uint8], semantic: NDArray[np.uint8], colour: tuple[int, int, int]) -> None:
    """Draw the outlines of all nuclei of a semantic map into a picture, one pixel wide, in place.

    Shape:
        picture (H, W, 3) RGB, semantic (H, W): 0 background, 255 ignored
    """
    mask = ((semantic > 0) & (semantic != IGNORED)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, 1)


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
