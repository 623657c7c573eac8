"""Nucleus instances from a foreground mask alone."""

import cv2
import numpy as np
from numpy.typing import NDArray


def connected_components(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Label the connected regions (8 neighbours) of a mask from 1; nuclei that touch count as one.

    Shape:
        (H, W) bool -> (H, W) int32, 0 = background

    >>> connected_components(np.array([[1, 0, 1], [0, 0, 1]], bool)).tolist()
    [[1, 0, 2], [0, 0, 2]]
    """
    return cv2.connectedComponents(np.ascontiguousarray(mask, dtype=np.uint8), connectivity=8, ltype=cv2.CV_32S)[1]
