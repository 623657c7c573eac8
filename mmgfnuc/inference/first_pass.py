"""How large the pixels of an image are, by the nuclei that a model finds at one size or another."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

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
# Nuclei of which a median says something, and how far it may be from the usual one, as a power of 2.
FEWEST, FARTHEST = 5, 1
# How much the median nucleus differs between images of the usual pixel size: the standard deviation of its logarithm to
# base 2. In the 16 organs of NuInsSeg that the recipe was chosen on it is 0.43 over images and 0.38 over organs.
SPREAD = 0.4


@dataclass(frozen=True)
class Look:
    """What a model finds in a part of an image.

    Attributes:
        diameters: of the discs of equal area, of the nuclei that the edge does not cut, in pixels.
        certainty: how sure the model is of them.

    Shape:
        - diameters: (N,)
    """

    diameters: NDArray[np.float64]
    certainty: float

    @classmethod
    def at(cls, labels: LabelMap, foreground: NDArray[np.float32]) -> Self:
        """Sum up nuclei and the probability of them.

        The certainty is the mean of |2 p - 1| over all pixels, times that of 2 p - 1 over those of nuclei: seen too
        small, nuclei are pale, seen too large all is doubtful. It does not grow with their number, as a part of an
        image has fewer of them the larger it is seen.

        Shape:
            - labels, foreground: (H, W)
        """
        found = measure_nuclei(labels)
        diameters = equivalent_diameter(found.areas[found.whole])
        margin = 2 * foreground - 1
        inside = margin[labels > 0].mean() if found.ids.size else 0.0
        return cls(diameters, float(abs(margin).mean() * inside))


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


def first_pass(look: Callable[[float], Look], mpp: float, nucleus_um: float) -> float | None:
    """Find micrometres per pixel of an image, as those at which a model is surest of its nuclei.

    The model looks at a part of the image as if its pixels measured this or that. A certainty counts the less, the
    farther the median nucleus would be from the usual one; sizes at which it would measure less than half, or more than
    twice, of that are left out.

    Args:
        look: at the image, if its pixels measured that many micrometres.
        mpp: micrometres per pixel of the training images.
        nucleus_um: median diameter of their nuclei, in micrometres.

    Returns:
        None where too few nuclei are found.

    Source: code: own.
    """
    certainties = {}
    for assumed in (mpp * 2**step for step in STEPS):
        if not is_mpp(assumed):
            continue
        found = look(assumed)
        if len(found.diameters) < FEWEST:
            continue
        off = math.log2(np.median(found.diameters) * assumed / nucleus_um)
        if abs(off) <= FARTHEST:
            certainties[assumed] = found.certainty * math.exp(-((off / SPREAD) ** 2) / 2)
    return max(certainties, key=lambda assumed: certainties[assumed], default=None)
