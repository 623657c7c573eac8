"""Steps that the post-processors share: regions of a mask, holes, small objects, and their division by markers."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

Mask = NDArray[np.bool_]
LabelMap = NDArray[np.int32]


def label_regions(mask: Mask) -> LabelMap:
    """Number the regions of a mask from 1; pixels that only meet at a corner lie apart.

    Shape:
        (H, W) -> (H, W), 0 = background
    """
    return cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)[1]


def fill_holes(mask: Mask, largest: float) -> Mask:
    """Fill the holes of a mask: regions of background (8 neighbours) that do not reach the edge of the map.

    Shape:
        (H, W) -> (H, W)

    Args:
        mask: foreground.
        largest: area of a hole that is filled, in pixels.
    """
    regions = cv2.connectedComponents((~mask).view(np.uint8), connectivity=8, ltype=cv2.CV_32S)[1]
    on_edge = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    # The first is as a rule the background around the nuclei: looking at its pixels takes most of the time.
    pixels = np.flatnonzero(regions > (1 in on_edge))
    members = regions.ravel()[pixels]
    hole = np.bincount(members, minlength=on_edge.max() + 1) <= largest
    hole[on_edge] = False
    filled = mask.copy()
    filled.ravel()[pixels] = hole[members]
    return filled


def drop_small(labels: LabelMap, smallest: float) -> LabelMap:
    """Drop what has less than `smallest` pixels, and number the rest from 1 without gaps, in the same order.

    Shape:
        (H, W) -> (H, W)
    """
    # Of booleans NumPy finds the places ten times as fast.
    pixels = np.flatnonzero(labels > 0)
    members = labels.ravel()[pixels]
    areas = np.bincount(members)
    kept = areas >= max(smallest, 1)
    result = np.zeros_like(labels)
    result.ravel()[pixels] = np.where(kept, np.cumsum(kept), 0)[members]
    return result


def divide(mask: Mask, markers: LabelMap, landscape: NDArray[np.floating]) -> LabelMap:
    """Divide each region of a mask among the markers in it, by watershed.

    Only regions with two markers or more are flooded: one with a single marker, or with none, is one nucleus.

    Shape:
        - mask, markers, landscape: (H, W)
        - returns: (H, W), 0 = background, numbers with gaps

    Args:
        mask: foreground.
        markers: 0 or the number of a marker, inside the mask, no marker in two regions.
        landscape: rises from the markers to the borders between nuclei.
    """
    regions = label_regions(mask)
    pixels = np.flatnonzero(markers > 0)
    region_of = np.zeros(markers.max(initial=0) + 1, np.intp)
    region_of[markers.ravel()[pixels]] = regions.ravel()[pixels]
    shared = np.bincount(region_of[1:], minlength=regions.max(initial=0) + 1) > 1
    if not shared.any():
        return regions
    flooded = np.take(shared, regions)
    return np.add(flood(landscape, markers, flooded), regions.max(), out=regions, where=flooded)


def flood(landscape: NDArray[np.floating], markers: LabelMap, mask: Mask) -> LabelMap:
    """Watershed from markers, 4 neighbours, fast: most pixels get their marker by going downhill.

    From a pixel one goes to its lowest neighbour, and on until there is none lower. Where that leads to a marker, the
    flood would come from there. The rest, plateaus and hollows without a marker, is flooded level by level.

    Shape:
        - landscape, markers, mask: (H, W)
        - returns: (H, W)

    Args:
        landscape: heights.
        markers: 0 or the number of a marker.
        mask: where water may go; it holds a marker in each of its regions.
    """
    labels = _descend(landscape, markers, mask)
    dry = mask & (labels == 0)
    if not dry.any():
        return labels
    shore = cv2.dilate(dry.view(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))).view(bool) & mask
    return np.where(dry, watershed(landscape, np.where(shore, labels, 0), mask=shore), labels)


def _descend(landscape: NDArray[np.floating], markers: LabelMap, mask: Mask) -> LabelMap:
    """Give each pixel the marker that lies downhill, 0 where there is none."""
    heights = np.pad(np.where(mask, landscape, np.inf), 1, constant_values=np.inf)
    width = heights.shape[1]
    heights = heights.ravel()
    pixels = np.flatnonzero(np.pad(mask, 1))
    lowest, downhill = heights[pixels], pixels
    for step in (-width, -1, 1, width):
        height = heights[pixels + step]
        downhill = np.where(height < lowest, pixels + step, downhill)
        lowest = np.minimum(lowest, height)
    found = markers[mask]
    downhill = np.where(found > 0, pixels, downhill)
    order = np.empty(heights.size, np.int32)
    order[pixels] = np.arange(pixels.size)
    downhill = order[downhill]
    while True:
        further = downhill[downhill]
        if np.array_equal(further, downhill):
            break
        downhill = further
    labels = np.zeros_like(markers)
    labels[mask] = found[downhill]
    return labels
