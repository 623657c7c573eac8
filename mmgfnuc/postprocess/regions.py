"""Steps that the post-processors share: regions of a mask, holes, small objects, and their division by markers."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

Mask = NDArray[np.bool_]
LabelMap = NDArray[np.int32]
Places = NDArray[np.intp]


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
    number, regions = cv2.connectedComponents((~mask).view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    on_edge = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    if np.count_nonzero(on_edge) == number - 1:
        return mask
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
    # NumPy finds the places of booleans faster.
    pixels = np.flatnonzero(labels > 0)
    members = labels.ravel()[pixels]
    areas = np.bincount(members)
    kept = areas >= max(smallest, 1)
    if kept[1:].all():
        return labels
    result = np.zeros_like(labels)
    result.ravel()[pixels] = np.where(kept, np.cumsum(kept), 0)[members]
    return result


def divide(regions: LabelMap, markers: LabelMap, landscape: NDArray[np.floating]) -> LabelMap:
    """Divide each region among the markers in it, by watershed.

    Only regions with two markers or more are flooded: one with a single marker, or with none, is one nucleus.

    Shape:
        - regions, markers, landscape: (H, W)
        - returns: (H, W), 0 = background, numbers with gaps

    Args:
        regions: 0 or the number of a region of the foreground, see `label_regions`.
        markers: 0 or the number of a marker, inside the regions, no marker in two of them.
        landscape: rises from the markers to the borders between nuclei.
    """
    pixels = np.flatnonzero(markers > 0)
    region_of = np.zeros(markers.max(initial=0) + 1, np.intp)
    region_of[markers.ravel()[pixels]] = regions.ravel()[pixels]
    shared = np.bincount(region_of[1:], minlength=regions.max(initial=0) + 1) > 1
    if not shared.any():
        return regions
    flooded = np.take(shared, regions)
    return np.where(flooded, flood(landscape, markers, flooded) + regions.max(), regions)


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
    # What is dry lies in small parts. Side by side these make a small map to flood.
    y, x = np.nonzero(shore)
    places = _side_by_side(label_regions(shore)[y, x] - 1, y, x, mask.size)
    shape = [place.max() + 1 for place in places]
    heights, seeds, inside = np.zeros(shape, landscape.dtype), np.zeros(shape, np.int32), np.zeros(shape, bool)
    heights[places], seeds[places], inside[places] = landscape[y, x], labels[y, x], True
    labels[y, x] = watershed(heights, seeds, mask=inside)[places]
    return labels


def _side_by_side(parts: LabelMap, y: Places, x: Places, largest: int) -> tuple[Places, Places]:
    """Rows and columns of pixels in a map where their parts stand in a row, or as they are if that takes more room.

    Shape:
        all (N,)

    Args:
        parts: of each pixel, that which it belongs to, from 0 without gaps.
        y: row of each pixel.
        x: column of each pixel.
        largest: map that is made, in pixels.
    """
    number = parts.max() + 1
    top, left, right = np.full(number, y.max()), np.full(number, x.max()), np.zeros(number, np.intp)
    np.minimum.at(top, parts, y)
    np.minimum.at(left, parts, x)
    np.maximum.at(right, parts, x)
    ends = np.cumsum(right - left + 2)
    row = y - top[parts]
    if (row.max() + 1) * ends[-1] > largest:
        return y, x
    return row, x - right[parts] - 2 + ends[parts]


def _descend(landscape: NDArray[np.floating], markers: LabelMap, mask: Mask) -> LabelMap:
    """Give each pixel the marker that lies downhill, 0 where there is none."""
    heights = _framed(np.where(mask, landscape, np.inf), np.inf)
    labels = _framed(np.where(mask, markers, 0), 0)
    width = heights.shape[1]
    heights, flat = heights.ravel(), labels.ravel()
    pixels = np.flatnonzero((flat == 0) & (heights < np.inf))
    lowest, downhill = heights[pixels], pixels
    for step in (-width, -1, 1, width):
        height = heights[pixels + step]
        downhill = np.where(height < lowest, pixels + step, downhill)
        lowest = np.minimum(lowest, height)
    found = flat[downhill]
    number = np.arange(pixels.size)
    order = np.zeros(flat.size, np.intp)
    order[pixels] = number
    way = np.where(found > 0, number, order[downhill])
    while not np.array_equal(further := way[way], way):
        way = further
    flat[pixels] = found[way]
    return labels[1:-1, 1:-1]


def _framed(values: NDArray, border: float) -> NDArray:
    """Put a frame of one pixel around a map; faster than NumPy's."""
    return cv2.copyMakeBorder(values, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=border)
