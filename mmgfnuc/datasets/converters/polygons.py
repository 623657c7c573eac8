"""Polygons to pixels.

Which of two overlapping nuclei keeps the shared pixels follows the script that the authors of MoNuSeg gave out
(he_to_binary_mask_final.m: the first).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.canonical import LabelMap, Mask
from mmgfnuc.errors import UserError

Ring = NDArray[np.floating]
Box = tuple[slice, slice]

# What lies further out would overflow on the way to whole pixels.
LARGEST_COORDINATE = 2**31
# Points where an outline crosses a row of pixels that are held in memory together.
CROSSINGS = 2**21
# Nearer than this to the centre of a pixel, in pixels, a border runs through it: the noise of floating-point numbers.
ON_CENTRE = 1e-9


def rasterise(polygons: Sequence[Ring], shape: tuple[int, int]) -> LabelMap:
    """Instance map of polygons: polygon k has id k + 1.

    A pixel in row r and column c belongs to a polygon if the point x = c, y = r lies inside or on the border. Where
    corners of pixels, not centres, have whole coordinates (COCO, GeoJSON of QuPath), subtract 0.5 first. What lies
    outside the image is cut off.

    Overlap: **the polygon that comes first keeps the shared pixels.** A polygon that is covered by earlier ones, or
    that holds no pixel centre, leaves no pixel, and its id is not used.

    Args:
        polygons: a ring for each nucleus; what it encloses twice is outside.
        shape: H, W in pixels.

    Shape:
        - polygons: each (N, 2), x and y in pixels, N >= 3; open or closed.
        - returns: (H, W), int32.

    Raises:
        UserError: A ring has fewer than 3 points, another shape, or a coordinate that is not finite or beyond 2**31.
    """
    labels = np.zeros(shape, np.int32)
    for index, ring in reversed(list(enumerate(polygons))):
        _check_ring(ring, f'polygon {index}')
        box, mask = fill(ring, shape)
        labels[box][mask] = index + 1
    return labels


def fill(ring: Ring, shape: tuple[int, int], even_odd: bool = True) -> tuple[Box, Mask]:
    """Pixels of a ring by the even-odd rule, border included: the part of the image that it touches, and a mask of it.

    Without `even_odd` a ring contains all that it encloses, even twice. The time grows with points and pixels, not
    with their product: outlines of tissue have ten thousands of points.
    """
    box, corner, size = _box(ring, shape)
    turns, border = _scan(ring - corner, size)
    mask = (turns % 2 == 1) if even_odd else (turns != 0)
    mask[border] = True
    return box, mask


def winding(ring: Ring, shape: tuple[int, int]) -> NDArray[np.int32]:
    """How often a ring runs around the centre of each pixel, with the other sign where it runs the other way.

    Shape:
        - ring: (N, 2)
        - returns: (H, W)
    """
    return _scan(ring, shape)[0]


def in_range(points: Ring) -> bool:
    """Whether all coordinates are finite and within 2**31."""
    return bool((np.abs(points) < LARGEST_COORDINATE).all())


def _box(points: Ring, shape: tuple[int, int]) -> tuple[Box, NDArray[np.intp], tuple[int, int]]:
    """The part of an image that points enclose: its slices, its corner (x, y), its height and width."""
    low = np.maximum(np.ceil(points.min(axis=0)), 0).astype(np.intp)
    high = np.minimum(np.floor(points.max(axis=0)), np.array(shape[::-1]) - 1).astype(np.intp)
    width, height = np.maximum(high - low + 1, 0).tolist()
    return (slice(low[1], low[1] + height), slice(low[0], low[0] + width)), low, (height, width)


def _scan(ring: Ring, shape: tuple[int, int]) -> tuple[NDArray[np.int32], tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Winding numbers, and the rows and columns of the pixels whose centre lies on the ring."""
    height, width = shape
    following = np.roll(ring, -1, axis=0)
    down = following[:, 1] > ring[:, 1]
    lower = np.maximum(ring[:, 1], following[:, 1])
    changes = np.zeros(height * (width + 1))
    on_ring = [_level_edges(ring, following, shape)]
    for edges, rows, x in _crossings(ring, following, height):
        # One end of an edge counts, the other belongs to the edge that goes on from there.
        counted = rows < lower[edges]
        places = rows * (width + 1) + np.clip(np.floor(x) + 1, 0, width).astype(np.intp)
        changes += np.bincount(places[counted], np.where(down[edges], 1, -1)[counted], minlength=changes.size)
        columns = np.rint(x)
        met = (np.abs(x - columns) < ON_CENTRE) & (columns >= 0) & (columns < width)
        on_ring.append((rows[met], columns[met].astype(np.intp)))
    turns = changes.reshape(height, width + 1).cumsum(axis=1)[:, :width].astype(np.int32)
    rows_met, columns_met = zip(*on_ring, strict=True)
    return turns, (np.concatenate(rows_met), np.concatenate(columns_met))


def _crossings(
    ring: Ring, following: Ring, height: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.floating]]]:
    """Where the edges of a ring meet the rows of pixels: the edges, the rows, the x there; level edges meet none."""
    (x0, y0), (x1, y1) = ring.T, following.T
    first = np.clip(np.ceil(np.minimum(y0, y1)), 0, height).astype(np.intp)
    last = np.clip(np.floor(np.maximum(y0, y1)), -1, height - 1).astype(np.intp)
    spans = np.where(y0 == y1, 0, np.maximum(last - first + 1, 0))
    parts = np.cumsum(spans) // CROSSINGS
    for part in range(int(parts[-1]) + 1):
        chosen = np.flatnonzero((parts == part) & (spans > 0))
        counts = spans[chosen]
        edges = np.repeat(chosen, counts)
        rows = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
        share = (rows - y0[edges]) / (y1[edges] - y0[edges])
        yield edges, rows, x0[edges] + share * (x1[edges] - x0[edges])


def _level_edges(ring: Ring, following: Ring, shape: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pixels whose centre lies on an edge that runs along a row."""
    (x0, y0), (x1, y1) = ring.T, following.T
    edges = np.flatnonzero((y0 == y1) & (y0 == np.floor(y0)) & (y0 >= 0) & (y0 < shape[0]))
    first = np.clip(np.ceil(np.minimum(x0, x1)[edges]), 0, shape[1]).astype(np.intp)
    last = np.clip(np.floor(np.maximum(x0, x1)[edges]), -1, shape[1] - 1).astype(np.intp)
    counts = np.maximum(last - first + 1, 0)
    columns = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    return np.repeat(y0[edges].astype(np.intp), counts), columns


def _check_ring(ring: Ring, name: str) -> None:
    if ring.ndim != 2 or ring.shape[1] != 2:
        raise UserError(f'{name}: shape {ring.shape} is not (points, 2); give x and y of each point')
    if len(ring) < 3:
        raise UserError(f'{name}: {len(ring)} points enclose nothing; give at least 3')
    if not in_range(ring):
        raise UserError(f'{name}: a coordinate is not finite or beyond 2**31; give pixels')
