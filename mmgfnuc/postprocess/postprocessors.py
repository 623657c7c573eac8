"""From the maps of an instance head to a label map of nuclei.

A post-processor is a small callable that a config names with its parameters: it takes the probability of the
foreground, the auxiliary maps of its head, and the pixel size where that is known. All work alike: foreground above a
threshold is cleaned of holes and small objects, each nucleus gets a marker, and a watershed divides what holds several.
They only differ in what marks a nucleus and where the borders lie. Values of NaN count as background, and as 0 in an
auxiliary map; the result depends on the input alone.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mmgfnuc.registry import TASK_UTILS

from .regions import LabelMap, Mask, divide, drop_small, fill_holes, label_regions

Map = NDArray[np.floating]
Float32Map = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class InstancePostProcessor(ABC):
    """What post-processors have in common: the foreground and the rules of size.

    Areas in square micrometres hold where the pixel size `mpp` (micrometres) is known, those in pixels elsewhere.

    Attributes:
        threshold: Foreground is what is more probable than this.
        nucleus_um2: Smallest nucleus that is kept, in square micrometres; a disc of 1.8 micrometres has 2.5.
        nucleus_pixels: The same, in pixels.
        hole_um2: Largest hole that is filled, in square micrometres.
        hole_pixels: The same, in pixels.

    Source: 10 pixels: Graham et al. 2019, doi:10.1016/j.media.2019.101563, the authors' program; the other areas are
        this project's own.
    """

    # Channels of the auxiliary maps that it takes.
    num_auxiliary: ClassVar[int]

    threshold: float = 0.5
    nucleus_um2: float = 2.5
    nucleus_pixels: float = 10
    hole_um2: float = 5.0
    hole_pixels: float = 20

    def label(self, foreground: Map, mpp: float | None, *auxiliary: Any) -> LabelMap:
        """Label the nuclei from 1 without gaps.

        Shape:
            - foreground: (H, W), probability
            - returns: (H, W), int32, 0 = background

        Args:
            foreground: where nuclei are.
            mpp: size of a pixel, in micrometres, where it is known.
            auxiliary: maps that `mark` takes besides.
        """
        regions = self.regions(foreground, mpp)
        mask = regions > 0
        if not mask.any():
            return regions
        return self.divide(regions, *self.mark(mask, mpp, *auxiliary), mpp)

    def regions(self, foreground: Map, mpp: float | None) -> LabelMap:
        """Number the regions of the foreground, without holes and small objects."""
        mask = foreground > self.threshold
        if not mask.any():
            return np.zeros(mask.shape, np.int32)
        mask = fill_holes(mask, self.hole_pixels if mpp is None else self.hole_um2 / mpp**2)
        return drop_small(label_regions(mask), self._smallest(mpp))

    @abstractmethod
    def mark(self, mask: Mask, mpp: float | None, *auxiliary: Any) -> tuple[Mask, Float32Map]:
        """Mark the nuclei, and make the landscape that rises from the markers to their borders."""

    def divide(self, regions: LabelMap, marked: Mask, landscape: Float32Map, mpp: float | None) -> LabelMap:
        """Divide the foreground among the markers; those below a quarter of the smallest nucleus are noise."""
        smallest = self._smallest(mpp)
        markers = drop_small(label_regions(marked & (regions > 0)), smallest / 4)
        return drop_small(divide(regions, markers, landscape), smallest)

    def _smallest(self, mpp: float | None) -> float:
        return self.nucleus_pixels if mpp is None else self.nucleus_um2 / mpp**2


@TASK_UTILS.register_module()
@dataclass(frozen=True, kw_only=True)
class WatershedInstances(InstancePostProcessor):
    """Nuclei of a foreground alone: what touches is divided where it is narrow.

    The depth of a pixel is its distance to the background. Markers are where the smoothed depth reaches a `share` of
    the greatest around it: nuclei that a narrow neck joins get two markers, and a nucleus of uneven outline one.

    Attributes:
        share: of the greatest depth.
        reach_um: How far to each side that is looked for, in micrometres, where the pixel size is known.
        reach_pixels: The same, in pixels, elsewhere.
        sigma: Deviation of the Gaussian that smooths the depth, in pixels.

    Source: the watershed of the distance transform is the field's common recipe.
    """

    num_auxiliary = 0
    share: float = 0.85
    reach_um: float = 2.0
    reach_pixels: float = 6
    sigma: float = 1.0

    def __call__(self, foreground: Map, mpp: float | None = None) -> LabelMap:
        """Label the nuclei; see `label`."""
        return self.label(foreground, mpp)

    def mark(self, mask: Mask, mpp: float | None) -> tuple[Mask, Float32Map]:  # type: ignore[override]
        """Mark the deep places."""
        # Exact distances cost ten times as much, and change no marker by more than noise does.
        depth = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        depth = cv2.GaussianBlur(depth, (0, 0), self.sigma)
        reach = round(self.reach_pixels if mpp is None else self.reach_um / mpp)
        window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        return depth >= self.share * cv2.dilate(depth, window), -depth


@TASK_UTILS.register_module()
@dataclass(frozen=True, kw_only=True)
class DistanceInstances(InstancePostProcessor):
    """Nuclei of a foreground and a distance map as `DistanceTarget` defines it: 1 at the deepest of each nucleus.

    Markers are where the smoothed distance is above `depth`; borders lie where it is lowest.

    Attributes:
        depth: Distance above which a pixel is in the marker.
        sigma: Deviation of the Gaussian that smooths the distance, in pixels.

    Source: Mahbod et al. 2022, doi:10.3389/fmed.2022.978146 (distance map and watershed).
    """

    num_auxiliary = 1
    depth: float = 0.45
    sigma: float = 1.0

    def __call__(self, foreground: Map, distance: Map, mpp: float | None = None) -> LabelMap:
        """Label the nuclei; see `label`.

        Shape:
            - distance: (H, W)
        """
        return self.label(foreground, mpp, distance)

    def mark(self, mask: Mask, mpp: float | None, distance: Map) -> tuple[Mask, Float32Map]:  # type: ignore[override]
        """Mark the deep places."""
        distance = cv2.GaussianBlur(_clean(distance, 0, 1), (0, 0), self.sigma)
        return distance > self.depth, -distance


@TASK_UTILS.register_module()
@dataclass(frozen=True, kw_only=True)
class HoverInstances(InstancePostProcessor):
    """Nuclei of a foreground and the horizontal and vertical maps that `HoverTarget` defines.

    Across a nucleus the maps rise from -1 to 1, and from one nucleus to the next they drop. Markers are where neither
    drops: where both derivatives (Sobel's, weights normalised, per pixel) are above `rise`; borders lie where they
    drop most. Unlike the authors' program nothing is normalised over the image, so that a nucleus does not depend on
    what else the image shows.

    Attributes:
        kernel: Edge of Sobel's kernel, in pixels, odd.
        rise: Smallest derivative in a marker; a little below 0, for maps that are not smooth.

    Source: Graham et al. 2019, doi:10.1016/j.media.2019.101563, section 3.3.
    """

    num_auxiliary = 2
    kernel: int = 9
    rise: float = -0.01

    def __call__(self, foreground: Map, hover: Map, mpp: float | None = None) -> LabelMap:
        """Label the nuclei; see `label`.

        Shape:
            - hover: (2, H, W), horizontal and vertical
        """
        return self.label(foreground, mpp, hover)

    def mark(self, mask: Mask, mpp: float | None, hover: Map) -> tuple[Mask, Float32Map]:  # type: ignore[override]
        """Mark where both maps rise."""
        horizontal, vertical = (_clean(channel, -1, 1) for channel in hover)
        derive, smooth = cv2.getDerivKernels(1, 0, self.kernel, normalize=True)
        across = cv2.sepFilter2D(horizontal, cv2.CV_32F, derive, smooth)
        down = cv2.sepFilter2D(vertical, cv2.CV_32F, smooth, derive)
        rise = cv2.min(across, down)
        return rise > self.rise, -cv2.GaussianBlur(rise, (3, 3), 0)


@TASK_UTILS.register_module()
@dataclass(frozen=True, kw_only=True)
class BoundaryInstances(InstancePostProcessor):
    """Nuclei of a foreground and the probability that a pixel of it is boundary, as `BoundaryTarget` defines that.

    Markers are where inside (the foreground without the boundary) is more probable than boundary by `margin`.

    Attributes:
        margin: of the probabilities, in a marker.
        sigma: Deviation of the Gaussian that smooths the landscape, boundary minus inside, in pixels.

    Source: Kumar et al. 2017, doi:10.1109/TMI.2017.2677499 (the three classes).
    """

    num_auxiliary = 1
    margin: float = 0.5
    sigma: float = 1.0

    def __call__(self, foreground: Map, boundary: Map, mpp: float | None = None) -> LabelMap:
        """Label the nuclei; see `label`.

        Shape:
            - boundary: (H, W), at most the foreground
        """
        return self.label(foreground, mpp, 2 * boundary - foreground)

    def mark(self, mask: Mask, mpp: float | None, landscape: Map) -> tuple[Mask, Float32Map]:  # type: ignore[override]
        """Mark the insides."""
        landscape = _clean(landscape, -1, 1)
        # Smoothing tells the near from the far in what is flat.
        return landscape < -self.margin, cv2.GaussianBlur(landscape, (0, 0), self.sigma)


def _clean(values: Map, low: float, high: float) -> Float32Map:
    """Keep a map within the values that it can have, 0 where there is none."""
    return cv2.patchNaNs(np.clip(values, low, high).astype(np.float32, order='C', copy=False))
