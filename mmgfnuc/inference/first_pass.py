"""How large a pixel is, by the nuclei that a model finds if it were of one size or another."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.colours import RGBImage
from mmgfnuc.datasets.images import LabelMap
from mmgfnuc.datasets.inspection.measure import equivalent_diameter, measure_nuclei
from mmgfnuc.datasets.pixel_size import is_mpp

# Side of the part of an image that is looked at, in pixels of the network.
LOOK_SIDE = 256
# Assumed sizes of a pixel over that of the training images, as powers of 2.
STEPS = (-1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5)
# Nuclei whose median says something.
FEWEST = 10


def whole_diameters(labels: LabelMap) -> NDArray[np.float64]:
    """Diameters (pixels) of the discs of equal area, of the nuclei that the edge does not cut.

    Shape:
        (H, W) -> (N,)
    """
    found = measure_nuclei(labels)
    return equivalent_diameter(found.areas[found.whole])


def densest_part(image: RGBImage, side: int) -> RGBImage:
    """Cut the square out of an image that absorbs most red light, as haematoxylin does and eosin does not.

    Shape:
        (H, W, 3) -> (min(H, side), min(W, side), 3)
    """
    height, width = (min(side, own) for own in image.shape[:2])
    density = np.log10(255 / np.maximum(image[..., 0], 1), dtype=np.float32)
    sums = cv2.boxFilter(density, -1, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    sums = sums[: image.shape[0] - height + 1, : image.shape[1] - width + 1]
    y, x = np.unravel_index(sums.argmax(), sums.shape)
    return image[y : y + height, x : x + width]


def first_pass(diameters_at: Callable[[float], NDArray[np.float64]], mpp: float, nucleus_um: float) -> float | None:
    """Find micrometres per pixel by which the nuclei of an image have the size that is usual.

    The model looks at a part of the image as if its pixels measured this or that. Seen at nearly the right size, nuclei
    are found whole, and their median diameter gives the size of a pixel; where that is the one that was assumed, both
    agree. Seen too small they run together, too large they fall apart: both then disagree.

    Args:
        diameters_at: gives the diameters (pixels) of the nuclei that are found if pixels measured that many
            micrometres.
        mpp: micrometres per pixel of the training images.
        nucleus_um: median diameter of their nuclei, in micrometres.

    Returns:
        None where too few nuclei are found.

    Source: own; the median of a first segmentation as the scale of a second is Cellpose's (Stringer et al. 2021,
        doi:10.1038/s41592-020-01018-x).
    """
    best, found = math.inf, None
    for step in STEPS:
        assumed = mpp * 2**step
        diameters = diameters_at(assumed)
        if len(diameters) < FEWEST or not is_mpp(assumed):
            continue
        measured = nucleus_um / float(np.median(diameters))
        difference = abs(math.log2(measured / assumed))
        if difference < best and is_mpp(measured):
            best, found = difference, measured
    return found
