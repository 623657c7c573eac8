"""How large the pixels of an image are, by the nuclei that a model finds at one size or another."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.colours import RGBImage
from mmgfnuc.datasets.images import LabelMap
from mmgfnuc.datasets.inspection.measure import equivalent_diameter, measure_nuclei
from mmgfnuc.datasets.pixel_size import is_mpp

# Side of the parts of an image that are looked at, in pixels of the network, and how many they are at most. One part
# shrinks as its pixels are assumed larger, and what it shows changes; several make up for that.
LOOK_SIDE, PARTS = 256, 3
# Assumed sizes of a pixel over that of the training images, as powers of 2.
STEPS = (-1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5)
# Nuclei of which a median says something, and how far it may be from the usual one, as a power of 2.
FEWEST, FARTHEST = 5, 1


@dataclass(frozen=True)
class Look:
    """What a model finds in parts of an image.

    Attributes:
        diameters: of the discs of equal area, of the nuclei that the edge does not cut, in pixels.
        certainty: how sure the model is of them.

    Shape:
        - diameters: (N,)
    """

    diameters: NDArray[np.float64]
    certainty: float

    @classmethod
    def at(cls, parts: Sequence[tuple[LabelMap, NDArray[np.float32]]]) -> Self:
        """Sum up nuclei and the probability of them in each part.

        The certainty is the mean of |2 p - 1| over all pixels, times that of 2 p - 1 over those of nuclei, times the
        root of their number: seen too small, nuclei are few and pale, seen too large all is doubtful.

        Shape:
            - parts: of (H, W) and (H, W)
        """
        found = [measure_nuclei(labels) for labels, _ in parts]
        diameters = np.concatenate([equivalent_diameter(part.areas[part.whole]) for part in found])
        margin = np.concatenate([2 * foreground.ravel() - 1 for _, foreground in parts])
        inside = margin[np.concatenate([labels.ravel() > 0 for labels, _ in parts])]
        certainty = abs(margin).mean() * inside.mean() * len(diameters) ** 0.5 if inside.size else 0.0
        return cls(diameters, float(certainty))


def densest_parts(image: RGBImage, side: int, most: int = PARTS) -> Iterator[RGBImage]:
    """Cut the squares out of an image that absorb most red light, as haematoxylin does and eosin does not.

    They do not overlap, so that a small image has fewer, and one at least.

    Shape:
        (H, W, 3) -> (min(H, side), min(W, side), 3) each
    """
    height, width = (min(side, own) for own in image.shape[:2])
    density = np.log10(255 / np.maximum(image[..., 0], 1), dtype=np.float32)
    sums = cv2.boxFilter(density, -1, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    sums = sums[: image.shape[0] - height + 1, : image.shape[1] - width + 1]
    for _ in range(most):
        y, x = np.unravel_index(sums.argmax(), sums.shape)
        if sums[y, x] == -np.inf:
            return
        yield image[y : y + height, x : x + width]
        sums[max(0, y - height + 1) : y + height, max(0, x - width + 1) : x + width] = -np.inf


def first_pass(look: Callable[[float], Look], mpp: float, nucleus_um: float) -> float | None:
    """Find micrometres per pixel of an image, as those at which a model is surest of its nuclei.

    The model looks at parts of the image as if its pixels measured this or that. Sizes are left out at which the
    median nucleus would measure less than half, or more than twice, of what is usual.

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
        if abs(math.log2(np.median(found.diameters) * assumed / nucleus_um)) <= FARTHEST:
            certainties[assumed] = found.certainty
    return max(certainties, key=lambda assumed: certainties[assumed], default=None)
