"""Nuclei drawn in Aperio ImageScope.

Source: over defusedxml.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import iterparse, parse
from skimage.measure import points_in_poly

from mmgfnuc.datasets.bad_file import BadFileError, require_file, unreadable
from mmgfnuc.datasets.pixel_size import check_mpp
from mmgfnuc.errors import UserError

from .outlines import Outline, ring_of, square_pixels
from .own_files import one_line

# Broken XML raises a SyntaxError, forbidden entities a ValueError, an unknown encoding a LookupError.
XML_ERRORS = (OSError, SyntaxError, ValueError, LookupError, RecursionError)
NO_POINTS = 'a point without X or Y in pixels'
ORIGINAL = 'get the original file'
# Type of a region that measures or points.
NO_OUTLINES = {'3': 'an arrow, no outline', '4': 'a ruler, no outline'}
NO_HOLE = 'negative, but in no other region of its layer'


def read_regions(path: Path) -> list[Outline]:
    """Read the outlines of an ImageScope annotation file, in the order of the file.

    The kind of each is the name of its layer, such as `Lymphocyte`; empty where the layer has none. A negative region
    (`NegativeROA="1"`) is a hole of the smallest region of its layer in which it lies. What has fewer than 3 points is
    the trace of a stray click; authors' files hold some.

    Raises:
        BadFileError: The file is not an XML of ImageScope, or declares entities.
    """
    require_file(path)
    try:
        root = parse(path).getroot()
    except XML_ERRORS as error:
        raise unreadable(path, error, ORIGINAL) from error
    _check_root(path, root)
    regions = []
    for layer in root.iterfind('Annotation'):
        attribute = layer.find('Attributes/Attribute')
        name = '' if attribute is None else one_line(attribute.get('Name', ''))
        drawn: dict[bool, list[Outline]] = {False: [], True: []}
        for number, region in enumerate(layer.iterfind('Regions/Region'), start=1):
            drawn[_is_negative(region)].append(_outline(region, f'region {number} of layer {name!r}', name))
        regions += _with_holes(drawn[False], drawn[True])
    return regions


def read_mpp(path: Path) -> float | None:
    """Micrometres per pixel that an ImageScope annotation file states in its first line; None where it does not.

    Raises:
        UserError: The file is not an XML of ImageScope, or states a pixel size that no microscope has.
    """
    require_file(path)
    try:
        _, root = next(iter(iterparse(path, events=('start',))))
        _check_root(path, root)
        mpp = float(root.get('MicronsPerPixel', '').strip() or 0)
    except UserError:
        raise
    except XML_ERRORS as error:
        raise unreadable(path, error, ORIGINAL) from error
    return check_mpp(mpp, str(path)) if isfinite(mpp) and mpp > 0 else None


def _outline(region: Element, name: str, layer: str) -> Outline:
    if no_outline := NO_OUTLINES.get(region.get('Type', '').strip()):
        return Outline(name, kind=layer, fault=no_outline)
    try:
        vertices = [vertex.attrib for vertex in region.iterfind('Vertices/Vertex')]
        points = [(float(vertex['X']), float(vertex['Y'])) for vertex in vertices]
    except (KeyError, ValueError):
        return Outline(name, kind=layer, fault=NO_POINTS)
    ring, fault = ring_of(points)
    return Outline(name, [] if ring is None else [[ring]], layer, fault)


def _is_negative(region: Element) -> bool:
    return region.get('NegativeROA', '0').strip().lower() in ('1', 'true')


def _with_holes(regions: Sequence[Outline], holes: Sequence[Outline]) -> list[Outline]:
    whole = list(regions)
    for hole in holes:
        owners = [] if hole.fault else [k for k, region in enumerate(whole) if region.area and _holds(region, hole)]
        if owners:
            owner = min(owners, key=lambda k: square_pixels(whole[k]))
            whole[owner] = replace(whole[owner], area=[[*whole[owner].area[0], hole.area[0][0]]])
        else:
            whole.append(hole if hole.fault else replace(hole, area=[], fault=NO_HOLE))
    return whole


def _holds(region: Outline, hole: Outline) -> bool:
    """Whether most points of the hole lie in the region: a hand may slip over the border."""
    return bool(points_in_poly(hole.area[0][0], region.area[0][0]).mean() > 0.5)


def _check_root(path: Path, root: Element) -> None:
    if root.tag != 'Annotations':
        raise BadFileError(
            path, f'its outermost tag is <{root.tag[:40]}>', 'give the XML of Aperio ImageScope (<Annotations>)'
        )
