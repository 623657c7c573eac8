"""Nuclei as GeoJSON that QuPath opens: polygons along the edges of pixels.

Coordinates are those of QuPath: pixels from the corner of the image, so that the first pixel goes from 0 to 1.

Source: form of the objects: qupath.readthedocs.io, "Exporting annotations", and what QuPath 0.4 and later write;
geometry: RFC 7946 (rings closed, outer ones counter-clockwise where y is taken upwards).
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from mmgfnuc.visualization.overlay import outline

Ring = list[tuple[int, int]]
Polygon = list[Ring]

# By direction, east, south, west and north: the step along an edge with the piece on its right, from there to the left,
# and from the corner of a pixel to the start of its edge.
AHEAD = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
LEFT = np.roll(AHEAD, 1, axis=0)
START = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])


def feature_collection(
    name: str,
    outlines: Mapping[int, Sequence[Polygon]],
    types: NDArray[np.integer],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    measures: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    """Put the N nuclei of an image into a FeatureCollection, each a detection with its class and measurements.

    The id of a nucleus is a UUID, as QuPath asks for, that depends on image, number and outline alone: two runs agree,
    and the nuclei of many images can be put together.

    Args:
        name: of the image.
        outlines: of each nucleus, by id, see `trace_polygons`.
        types: of each nucleus, by id, indices into the classes; 0 is left unclassified.
        classes: names, the background first.
        palette: colour (RGB) of each class.
        measures: of each nucleus, by id, finite numbers by name.

    Shape:
        types (N,)
    """
    features = []
    for (number, pieces), kind, values in zip(outlines.items(), types, measures, strict=True):
        named = {'classification': {'name': classes[kind], 'color': list(palette[kind])}} if kind else {}
        features.append(
            {
                'type': 'Feature',
                'id': str(uuid.uuid5(uuid.NAMESPACE_OID, f'{name}/{number}/{pieces}')),
                'geometry': _geometry(pieces),
                'properties': {
                    'objectType': 'detection',
                    'name': str(number),
                    **named,
                    'measurements': dict(values),
                },
            }
        )
    return {'type': 'FeatureCollection', 'features': features}


def _geometry(pieces: Sequence[Polygon]) -> dict[str, Any]:
    if len(pieces) == 1:
        return {'type': 'Polygon', 'coordinates': pieces[0]}
    return {'type': 'MultiPolygon', 'coordinates': pieces}


def trace_polygons(labels: NDArray[np.integer]) -> dict[int, list[Polygon]]:
    """Outline the nuclei of a label map along the edges of their pixels.

    Each nucleus is a list of polygons, one for each piece of it whose pixels share edges: an outer ring, then its
    holes. A ring names its corners (x, y) only, is closed, and passes no point twice, so that polygons are valid by the
    rules of the OGC (Simple Features) for any map. Together they cover exactly the pixels of the nucleus.

    Shape:
        labels (H, W), 0 = background, ids may have gaps -> {id: polygons}, ids ascending

    Examples:
        >>> trace_polygons(np.array([[0, 7, 7]]))
        {7: [[[(1, 0), (3, 0), (3, 1), (1, 1), (1, 0)]]]}

    """
    pieces = np.pad(label(labels, background=0, connectivity=1).astype(np.int32), 1)
    pixels, directions, following = _corners(pieces, *_edges(pieces))
    starts = np.stack(np.unravel_index(pixels, pieces.shape), axis=1) + START[directions] - 1
    points = list(zip(starts[:, 1].tolist(), starts[:, 0].tolist(), strict=True))
    piece_of = pieces.ravel()[pixels]
    polygons: list[Polygon] = [[] for _ in range(pieces.max(initial=0))]
    for cycle in _cycles(following.tolist()):
        ring = [points[corner] for corner in cycle]
        # Edges go from top to bottom, so that the outer ring of a piece is met before its holes.
        polygons[piece_of[cycle[0]] - 1].append([*ring, ring[0]])
    first = np.unique(piece_of, return_index=True)[1]
    numbers = np.pad(labels, 1).ravel()[pixels[first]].tolist()
    nuclei: dict[int, list[Polygon]] = {number: [] for number in sorted(numbers)}
    for number, polygon in zip(numbers, polygons, strict=True):
        nuclei[number].append(polygon)
    return nuclei


def _edges(pieces: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pixel (flat) and direction of all edges between a piece and anything else, by pixel and direction, ascending."""
    flat = pieces.ravel()
    inner = np.flatnonzero(outline(pieces))
    outer = np.stack([flat[inner + step] != flat[inner] for step in LEFT @ (pieces.shape[1], 1)], axis=1)
    places, directions = np.nonzero(outer)
    return inner[places], directions


def _corners(
    pieces: NDArray[np.integer], pixels: NDArray[np.intp], directions: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Keep the edges that begin at a corner: pixel and direction, and index of the one that follows."""
    following = _following(pieces, pixels, directions)
    corner = np.empty(len(following), bool)
    corner[following] = directions[following] != directions
    # Each round doubles the straight way that is passed over.
    while not corner[following].all():
        following = np.where(corner[following], following, following[following])
    index = np.cumsum(corner) - 1
    return pixels[corner], directions[corner], index[following[corner]]


def _following(pieces: NDArray[np.integer], pixels: NDArray[np.intp], directions: NDArray[np.intp]) -> NDArray[np.intp]:
    """Index of the edge that continues each edge.

    Where the piece has both pixels of a diagonal, the path crosses over to the other one: what lies beside it are two
    holes, or a hole and the outside, that touch in a point, and each of them gets a ring of its own.
    """
    flat, width = pieces.ravel(), pieces.shape[1]
    forward, sideways = (steps @ (width, 1) for steps in (AHEAD, LEFT))
    ahead = pixels + forward[directions]
    beside = ahead + sideways[directions]
    turns_left, goes_on = (flat[place] == flat[pixels] for place in (beside, ahead))
    pixel = np.where(turns_left, beside, np.where(goes_on, ahead, pixels))
    direction = (directions + np.where(turns_left, -1, np.where(goes_on, 0, 1))) % len(AHEAD)
    return np.searchsorted(pixels * len(AHEAD) + directions, pixel * len(AHEAD) + direction)


def _cycles(following: list[int]) -> list[list[int]]:
    """Cycles of a permutation, each from its lowest index."""
    done = bytearray(len(following))
    cycles = []
    for first in range(len(following)):
        if done[first]:
            continue
        cycle, edge = [], first
        while not done[edge]:
            done[edge] = True
            cycle.append(edge)
            edge = following[edge]
        cycles.append(cycle)
    return cycles
