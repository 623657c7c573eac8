"""What an instance head learns, made from the instance map that the augmentations have left.

A head names its transform and the key of what that makes (see InstanceHead); the launcher puts it into the training
pipeline, after all changes of place. Ids may have gaps; a nucleus in pieces is one nucleus. Ignored pixels are not told
apart here: the losses leave them out.
"""

from abc import ABC, abstractmethod
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray
from scipy import ndimage

from mmgfnuc.errors import UserError
from mmgfnuc.registry import TRANSFORMS

BACKGROUND, INSIDE, BOUNDARY = range(3)


class _InstanceTarget(BaseTransform, ABC):
    """One map more in a sample, under `key`."""

    def __init__(self, key: str) -> None:
        self.key = key

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the map of `instance_map`."""
        if 'instance_map' not in results:
            raise UserError(f'{type(self).__name__} finds no instance_map; put it right before PackNucleiInputs')
        results[self.key] = self.target(results['instance_map'])
        return results

    @staticmethod
    @abstractmethod
    def target(instance_map: NDArray[np.integer]) -> NDArray:
        """Compute the map."""


@TRANSFORMS.register_module()
class DistanceTarget(_InstanceTarget):
    """Adds the distance map: how deep in its nucleus a pixel lies, 1 at the deepest, 0 in the background.

    d(p) = D(p) / max D over the nucleus of p, with D(p) the Euclidean distance (pixels) from p to the nearest pixel
    outside its nucleus, be it background or another nucleus. The edge of the map is not a border: what a crop has cut
    goes on beyond it, and a nucleus that fills the map is 1 everywhere.

    Shape:
        - instance_map: (H, W)
        - distance map: (H, W), float32, in [0, 1]

    Source: Mahbod et al. 2022, doi:10.3389/fmed.2022.978146 (second decoder).
    """

    @staticmethod
    def target(instance_map: NDArray[np.integer]) -> NDArray[np.float32]:
        """Compute the map."""
        distance = np.zeros(instance_map.shape, np.float32)
        labels, _ = _numbered(instance_map)
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            # With a margin of one pixel the window holds the nearest pixel outside, wherever in the nucleus one stands.
            window = np.s_[max(rows.start - 1, 0) : rows.stop + 1, max(columns.start - 1, 0) : columns.stop + 1]
            nucleus = labels[window] == number
            if nucleus.all():
                distance[window] = 1
                continue
            depth = cv2.distanceTransform(nucleus.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            # OpenCV's last bit depends on where in memory the window lies; squares of distances are whole numbers.
            squared = np.rint(np.square(depth))
            distance[window] += np.sqrt(squared / squared.max())
        return distance


@TRANSFORMS.register_module()
class HoverTarget(_InstanceTarget):
    """Adds the hover map: where in its nucleus a pixel lies, left or right of and above or below the centre of mass.

    For a pixel at column x of a nucleus with the centre of mass c and columns from a to b, the horizontal map is
    (x - c) / (c - a) left of c and (x - c) / (b - c) right of it: -1 in the first column, 1 in the last, and likewise
    the vertical map from the first row to the last. Both are 0 in the background.

    Shape:
        - instance_map: (H, W)
        - hover map: (2, H, W), float32, in [-1, 1]: horizontal, vertical

    Source: Graham et al. 2019, doi:10.1016/j.media.2019.101563, section 3.1 (the authors' program rounds c to whole
        pixels, and leaves nuclei below 30 pixels out; here neither is done).
    """

    @staticmethod
    def target(instance_map: NDArray[np.integer]) -> NDArray[np.float32]:
        """Compute the map."""
        hover = np.zeros((2, *instance_map.shape), np.float32)
        labels, areas = _numbered(instance_map)
        boxes = ndimage.find_objects(labels)
        places = np.nonzero(labels)
        nucleus = labels[places] - 1
        for axis, channel in ((1, 0), (0, 1)):
            place = places[axis]
            centre = np.bincount(nucleus, place, areas.size) / areas
            before = centre - np.array([box[axis].start for box in boxes])
            behind = np.array([box[axis].stop - 1 for box in boxes]) - centre
            offset = place - centre[nucleus]
            reach = np.where(offset < 0, before[nucleus], behind[nucleus])
            hover[channel][places] = np.divide(offset, reach, out=np.zeros_like(offset), where=reach > 0)
        return hover


@TRANSFORMS.register_module()
class BoundaryTarget(_InstanceTarget):
    """Adds the boundary map: 0 background, 1 inside of a nucleus, 2 boundary.

    Boundary is a pixel of a nucleus with one of its four neighbours outside this nucleus, be it background or another
    nucleus: a line of one pixel around every nucleus, on its own side, two pixels between nuclei that touch. It keeps
    their insides apart and takes no pixel from the background, so that foreground is 1 or 2. The edge of the map is no
    boundary.

    Shape:
        - instance_map: (H, W)
        - boundary map: (H, W), uint8

    Source: Kumar et al. 2017, doi:10.1109/TMI.2017.2677499 (the three classes); which pixels are boundary, and code:
        own.
    """

    @staticmethod
    def target(instance_map: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Compute the map."""
        border = np.zeros(instance_map.shape, bool)
        rows, columns = instance_map[1:] != instance_map[:-1], instance_map[:, 1:] != instance_map[:, :-1]
        border[1:] |= rows
        border[:-1] |= rows
        border[:, 1:] |= columns
        border[:, :-1] |= columns
        return np.where(instance_map > 0, np.where(border, BOUNDARY, INSIDE), BACKGROUND).astype(np.uint8)


def _numbered(instance_map: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the nuclei from 1 without gaps; return the map and the areas in pixels."""
    labels = np.zeros(instance_map.shape, np.int32)
    inside = instance_map > 0
    _, numbers, areas = np.unique(instance_map[inside], return_inverse=True, return_counts=True)
    labels[inside] = numbers + 1
    return labels, areas
