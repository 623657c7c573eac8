"""Nuclei drawn into a tissue image: the outline of each, inside the nucleus, so that touching ones stay apart."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .panels import Colour, Panel, Pixels, arrange

PREDICTION_COLOUR: Colour = (255, 225, 0)


def outline(labels: NDArray[np.integer | np.bool_], width: int = 1) -> NDArray[np.bool_]:
    """Outermost pixels of each label: those within `width` rows or columns of another label or of the image's edge.

    Shape:
        labels (H, W), 0 = background -> (H, W)
    """
    framed = np.pad(labels, width)
    height, columns = labels.shape
    found = np.zeros(labels.shape, bool)
    for step in range(-width, width + 1):
        for down, right in ((step, 0), (0, step)):
            top, left = width + down, width + right
            found |= framed[top : top + height, left : left + columns] != labels
    return found & (labels != 0)


def draw_overlay(
    image: Pixels,
    labels: NDArray[np.integer],
    types: NDArray[np.integer] | None = None,
    classes: Sequence[str] = (),
    palette: Sequence[Colour] = (),
) -> Pixels:
    """Outline each nucleus, one pixel wide: in yellow, or in the colour of its type where there are several types.

    With types, a legend below the image shows their colours and numbers; nuclei of type 0, unknown, have the colour of
    the background.

    Args:
        image: RGB.
        labels: the nuclei, from 1 without gaps if they have types; 0 = background.
        types: of each nucleus, indices into the classes.
        classes: names, the background first.
        palette: colour of each class.

    Shape:
        image (H, W, 3), labels (H, W), types (nuclei,) -> (H, W, 3) RGB; with a legend at least so high and wide
    """
    picture, edge = image.copy(), outline(labels)
    if types is None or len(classes) <= 2:
        picture[edge] = PREDICTION_COLOUR
        return picture
    picture[edge] = np.array(palette, np.uint8)[types[labels[edge] - 1]]
    counts = np.bincount(types, minlength=len(classes))
    entries = zip(classes[1:], counts[1:], palette[1:], strict=True)
    return arrange([Panel(picture)], 1, [[(f'{name}: {count}', tuple(colour)) for name, count, colour in entries]])
