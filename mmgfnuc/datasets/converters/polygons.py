"""Nuclei drawn as polygons: the XML of Aperio ImageScope, and polygons to instance maps.

Which of two overlapping nuclei keeps the shared pixels follows the script that the authors of MoNuSeg gave out
(he_to_binary_mask_final.m: the first). Source: code: own, over defusedxml and scikit-image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from defusedxml.ElementTree import iterparse, parse
from numpy.typing import NDArray
from skimage.draw import polygon as inside_polygon

from mmgfnuc.datasets.canonical import BadFileError, LabelMap
from mmgfnuc.errors import UserError

Ring = NDArray[np.floating]

# Broken XML raises a SyntaxError, forbidden entities a ValueError, an unknown encoding a LookupError.
XML_ERRORS = (OSError, SyntaxError, ValueError, LookupError)
# What lies further out would overflow on the way to whole pixels.
LARGEST_COORDINATE = 2**31


@dataclass(frozen=True)
class Region:
    """One drawn outline.

    Attributes:
        name: of the layer that it stands in, such as `Lymphocyte`; empty where the layer has none.
        points: (N, 2), x and y in pixels from the corner of the image: the first pixel is 0 to 1.
    """

    name: str
    points: Ring


def read_regions(path: Path) -> list[Region]:
    """Read the outlines of an ImageScope annotation file, in the order of the file.

    What has fewer than 3 points is the trace of a stray click and left out; authors' files hold some.

    Raises:
        BadFileError: The file is no XML of ImageScope, declares entities, or a point lacks x or y.
    """
    try:
        root = parse(path).getroot()
    except XML_ERRORS as error:
        raise _unreadable(path, error) from error
    _check_root(path, root)
    regions = []
    for layer in root.iterfind('Annotation'):
        attribute = layer.find('Attributes/Attribute')
        name = '' if attribute is None else attribute.get('Name', '').strip()
        for number, region in enumerate(layer.iterfind('Regions/Region'), start=1):
            points = _points(path, region, f'region {number} of layer {name!r}')
            if len(points) >= 3:
                regions.append(Region(name, points))
    return regions


def read_mpp(path: Path) -> float | None:
    """Micrometres per pixel that an ImageScope annotation file states in its first line; None where it does not.

    Raises:
        BadFileError: The file is no XML of ImageScope.
    """
    try:
        _, root = next(iter(iterparse(path, events=('start',))))
        _check_root(path, root)
        mpp = float(root.get('MicronsPerPixel', 0))
    except BadFileError:
        raise
    except XML_ERRORS as error:
        raise _unreadable(path, error) from error
    return mpp if mpp > 0 else None


def draw_regions(path: Path, regions: Sequence[Region], shape: tuple[int, int]) -> LabelMap:
    """Instance map of regions, see `rasterise`: region k has id k + 1.

    Shape:
        - returns: (H, W)

    Raises:
        BadFileError: A region lies wholly outside of the image, so `path` belongs to another one.
    """
    for number, region in enumerate(regions, start=1):
        low, high = region.points.min(axis=0), region.points.max(axis=0)
        if (high <= 0).any() or (low >= shape[::-1]).any():
            raise BadFileError(
                path, f'outline {number} lies outside of the image {shape}', 'get the annotations of this image'
            )
    return rasterise([region.points - 0.5 for region in regions], shape)


def rasterise(polygons: Sequence[Ring | Sequence[Ring]], shape: tuple[int, int]) -> LabelMap:
    """Instance map of polygons: polygon k has id k + 1.

    A pixel in row r and column c belongs to a polygon if the point x = c, y = r lies inside or on the border. Where
    corners of pixels, not centres, have whole coordinates (COCO, GeoJSON of QuPath), subtract 0.5 first. What lies
    outside of the image is cut off.

    Overlap: **the polygon that comes first keeps the shared pixels.** A polygon that is covered by earlier ones, or
    that holds no pixel centre, leaves no pixel, and its id is not used.

    Args:
        polygons: for each nucleus one ring, or several by the even-odd rule: separate parts, or parts and their holes.
        shape: H, W in pixels.

    Shape:
        - polygons: each ring (N, 2), x and y in pixels, N >= 3; open or closed.
        - returns: (H, W), int32.

    Raises:
        UserError: A ring has fewer than 3 points, another shape, or a coordinate that is not finite or beyond 2**31.
    """
    labels = np.zeros(shape, np.int32)
    for index, polygon in reversed(list(enumerate(polygons))):
        rings = [polygon] if isinstance(polygon, np.ndarray) else polygon
        for ring in rings:
            _check_ring(ring, f'polygon {index}')
        rows, columns = _pixels(rings, shape)
        labels[rows, columns] = index + 1
    return labels


def _pixels(rings: Sequence[Ring], shape: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    parts = [inside_polygon(ring[:, 1], ring[:, 0], shape) for ring in rings]
    if len(parts) == 1:
        return parts[0]
    flat = np.concatenate([np.ravel_multi_index(part, shape) for part in parts])
    places, times = np.unique(flat, return_counts=True)
    return np.unravel_index(places[times % 2 == 1], shape)


def _check_ring(ring: Ring, name: str) -> None:
    if ring.ndim != 2 or ring.shape[1] != 2:
        raise UserError(f'{name}: shape {ring.shape} is not (points, 2); give x and y of each point')
    if len(ring) < 3:
        raise UserError(f'{name}: {len(ring)} points enclose nothing; give at least 3')
    if not _in_range(ring):
        raise UserError(f'{name}: a coordinate is not finite or beyond 2**31; give pixels')


def _in_range(points: Ring) -> bool:
    return bool((np.abs(points) < LARGEST_COORDINATE).all())


def _points(path: Path, region: Element, name: str) -> Ring:
    try:
        vertices = [vertex.attrib for vertex in region.iterfind('Vertices/Vertex')]
        points = np.array([(float(vertex['X']), float(vertex['Y'])) for vertex in vertices]).reshape(-1, 2)
    except (KeyError, ValueError) as error:
        raise BadFileError(path, f'{name} has a point without X or Y in pixels', 'get the original file') from error
    if not _in_range(points):
        raise BadFileError(path, f'{name} has a point that is not finite or beyond 2**31', 'get the original file')
    return points


def _check_root(path: Path, root: Element) -> None:
    if root.tag != 'Annotations':
        raise BadFileError(
            path, f'its outermost tag is <{root.tag}>', 'give the XML of Aperio ImageScope (<Annotations>)'
        )


def _unreadable(path: Path, error: Exception) -> BadFileError:
    reason = ' '.join(str(error).split()) or type(error).__name__
    return BadFileError(path, f'unreadable XML ({reason})', 'get the original file')
