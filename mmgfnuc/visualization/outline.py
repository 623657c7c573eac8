"""What pictures of nuclei have in common: outlines and the colour of the truth."""

import numpy as np
from numpy.typing import NDArray

TRUTH_COLOUR = (0, 230, 80)


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
