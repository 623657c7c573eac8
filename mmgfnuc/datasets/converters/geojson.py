"""Nuclei drawn or found in QuPath, from its GeoJSON.

Forms of the objects: QuPath 0.2 names the type of an object in `id` (`PathCellObject`), 0.3 in `object_type`, 0.4 and
later in `objectType`. A class that is derived from another has `parentClass` before 0.4, later `names`.

Source: GeoJSON, RFC 7946; QuPath, qupath-core, lib/io/QuPathTypeAdapters.java, GsonTools.java; its documentation,
"Exporting annotations".
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from skimage.measure import points_in_poly

from mmgfnuc.datasets.canonical import CLASSES, BadFileError, Mask, read_image
from mmgfnuc.datasets.validate import TIMES_THE_MEDIAN
from mmgfnuc.errors import UserError

from .base import Content, Options, Sample
from .notices import shortened
from .outlines import Area, Notices, Outline, cover, draw, joined, mark_crossings, ring_of, square_pixels
from .own_files import class_names, one_line, paired_samples, partners_by_stem, read_json, source_root

SUFFIXES = ('.geojson', '.json', '.geojson.gz', '.json.gz')
# As QuPath 0.2 and 0.3 call them.
FORMER_TYPES = {
    'PathAnnotationObject': 'annotation',
    'PathDetectionObject': 'detection',
    'PathCellObject': 'cell',
    'PathTileObject': 'tile',
    'TMACoreObject': 'tmaCore',
    'tma_core': 'tmaCore',
    'PathRootObject': 'root',
}
OBJECT_TYPES = set(FORMER_TYPES.values())
NO_NUCLEI = ('tile', 'tmaCore', 'root')
# QuPath ignores classes that end so, such as Region* and Ignore*.
STAR = '*'
# An area of tissue is larger than nuclei by more than this; an outline of a cell around that of its nucleus is not.
TIMES_A_NUCLEUS = 5
# A nucleus that fills more of its image is rare, but in tiny images; in pixels: at 40x few are as large.
LARGE_SHARE, LARGE_NUCLEUS = 0.1, 1000
LARGE = f'very large outlines, taken for nuclei; if they are the annotated area, give them the class Region{STAR}'
NO_FEATURE = 'no feature of GeoJSON'
NO_CLASS = 'its classification is not a name'
CELL = 'a cell without the outline of its nucleus'
STARRED = f'outlines of a class that QuPath ignores ({STAR}), no nuclei; ignored where no nucleus is'
ANNOTATED = 'outlines taken for the annotated area, no nuclei; what lies outside of it is ignored'
IGNORE = f'outlines of class Ignore{STAR}; all of their area is ignored'


@dataclass(frozen=True)
class Annotations:
    """What a file holds.

    Attributes:
        nuclei: with outlines that have a fault, or stand for an area to be ignored where no nucleus is.
        annotated: areas outside of which nothing was annotated; empty where all of the image was.
        ignored: areas to be ignored.
        notices: notices for the user.
    """

    nuclei: list[Outline]
    annotated: list[Outline]
    ignored: list[Outline]
    notices: Notices


def list_geojson(source: Path, options: Options) -> list[Sample]:
    """Pair images and GeoJSON files."""
    read = partial(read_geojson, classes=geojson_classes(source, options))
    return paired_samples(source, options, 'annotations', SUFFIXES, read)


def geojson_classes(source: Path, options: Options) -> list[str]:
    """Background and the classes of the nuclei, sorted; two classes where there are fewer than two names."""
    root = source_root(source, options['images'], options['annotations'])
    names: set[str] = set()
    for path in partners_by_stem(root / options['annotations'], SUFFIXES).values():
        # A bad file is reported with those of all other images when it is read for its own.
        with suppress(UserError):
            names |= {nucleus.kind for nucleus in read_annotations(path).nuclei if _is_sound(nucleus)}
    return class_names(sorted(names - {CLASSES[0], ''}))


def read_geojson(image: Path, path: Path, classes: Sequence[str]) -> Content:
    """Read an image and the nuclei drawn on it."""
    picture = read_image(image)
    shape = picture.shape[:2]
    found = read_annotations(path)
    nuclei = _checked_types(path, found.nuclei, classes)
    drawing = draw(path, mark_crossings(nuclei, shape), shape, own=True)
    types = np.array([0, *(classes.index(n.kind) if n.kind in classes else 1 for n in nuclei)], np.uint8)
    ignore = _ignore(found, drawing.unsure, drawing.instances > 0)
    if ignore.all():
        raise BadFileError(path, 'all of the image is ignored', 'remove the image, or draw the annotated area in it')
    return Content(
        picture,
        drawing.instances,
        ignore if ignore.any() else None,
        types[drawing.instances] if len(classes) > len(CLASSES) else None,
        joined(found.notices, drawing.notices, _large(nuclei, shape)),
    )


def read_annotations(path: Path) -> Annotations:
    """Read the objects of a file and classify them.

    Nuclei are annotations, detections and cells, of which the outline of the nucleus is taken. Tiles, cores of a tissue
    microarray and the root are not. An annotation that holds others and is more than five times as large as the usual
    outline is the annotated area. Where there is one, so are annotations as large, or ten times as large as usual:
    nothing was found in them. So is a class `Region*`; `Ignore*` is ignored. Annotations come first.

    Raises:
        BadFileError: The file is not GeoJSON.
    """
    notices: dict[str, list[str]] = {}
    shapes: list[tuple[str, Outline]] = []
    for name, feature in _features(path):
        kind = _object_type(feature)
        if kind in NO_NUCLEI:
            notices.setdefault(f'objects that are not nuclei, left out: {kind}', []).append(name)
        else:
            shapes.append((kind, _outline(name, feature, kind)))
    # What a person drew wins over what was found: it comes first, and keeps shared pixels.
    shapes.sort(key=lambda shape: shape[0] != 'annotation')
    areas = _annotated(shapes)
    annotated, ignored, nuclei = [], [], []
    for index, (_, outline) in enumerate(shapes):
        star = _star(outline)
        if outline.fault:
            nuclei.append(outline)
        elif star.startswith('ignore'):
            ignored.append(outline)
        elif star.startswith('region') or (index in areas and not star):
            annotated.append(outline)
        else:
            nuclei.append(replace(outline, ignored=bool(star)))
    starred = [outline for outline in nuclei if outline.ignored]
    for what, told in ((ANNOTATED, annotated), (IGNORE, ignored), (STARRED, starred)):
        if told:
            notices[what] = [f'{area.name} ({area.kind})' if area.kind else area.name for area in told]
    return Annotations(nuclei, annotated, ignored, notices)


def _star(outline: Outline) -> str:
    """The class that QuPath ignores, in lower case; empty without one."""
    return next((part.lower() for part in outline.kind.split(': ') if part.endswith(STAR)), '')


def _is_sound(outline: Outline) -> bool:
    return not (outline.fault or outline.ignored)


def _checked_types(path: Path, nuclei: Sequence[Outline], classes: Sequence[str]) -> list[Outline]:
    """The nuclei, with a fault where one has no nucleus type.

    Raises:
        BadFileError: None has one.
    """
    marked = [
        replace(nucleus, fault=_wrong_type(nucleus, classes)) if _is_sound(nucleus) else nucleus for nucleus in nuclei
    ]
    sound = [nucleus.name for nucleus in nuclei if _is_sound(nucleus)]
    if sound and not any(_is_sound(nucleus) for nucleus in marked):
        what = f'{shortened(sound)} of {len(sound)} {_wrong_type(next(filter(_is_sound, nuclei)), classes)}'
        raise BadFileError(path, what, 'name their nucleus types; the area that was annotated is of class Region*')
    return marked


def _wrong_type(nucleus: Outline, classes: Sequence[str]) -> str:
    if nucleus.kind == CLASSES[0]:
        return f'classified as {CLASSES[0]}'
    return 'without classification' if len(classes) > len(CLASSES) and not nucleus.kind else ''


def _large(nuclei: Sequence[Outline], shape: tuple[int, int]) -> Notices:
    """Those that may be an area rather than a nucleus, though nothing lies in them."""
    sizes = {nucleus.name: square_pixels(nucleus) for nucleus in nuclei if _is_sound(nucleus)}
    if not sizes:
        return {}
    usual = sorted(sizes.values())[(len(sizes) - 1) // 2]
    most = min(TIMES_THE_MEDIAN * usual, max(shape[0] * shape[1] * LARGE_SHARE, LARGE_NUCLEUS))
    large = [name for name, size in sizes.items() if size > most]
    return {LARGE: large} if large else {}


def _ignore(found: Annotations, unsure: Mask, nuclei: Mask) -> Mask:
    if found.annotated:
        unsure = unsure | ~cover(found.annotated, unsure.shape)
    return (unsure & ~nuclei) | cover(found.ignored, unsure.shape)


def _features(path: Path) -> Iterator[tuple[str, Any]]:
    """All features, children after their parent, with names: `feature 3`, and `feature 3.1` for its first child."""
    content = read_json(path)
    if isinstance(content, dict):
        features = content.get('features', [content] if 'geometry' in content else None)
    else:
        features = content
    if not isinstance(features, list):
        raise BadFileError(path, 'no features as QuPath writes them', 'export it from QuPath as a FeatureCollection')
    waiting = [(f'feature {number}', feature) for number, feature in enumerate(features, start=1)][::-1]
    while waiting:
        name, feature = waiting.pop()
        yield name, feature
        properties = _properties(feature)
        children = properties.get('childObjects', properties.get('children'))
        if isinstance(children, list):
            waiting += [(f'{name}.{number}', child) for number, child in enumerate(children, start=1)][::-1]


def _properties(feature: Any) -> Mapping[str, Any]:
    properties = feature.get('properties') if isinstance(feature, dict) else None
    return properties if isinstance(properties, dict) else {}


def _object_type(feature: Any) -> str:
    """What an object is in the words of QuPath 0.4; annotation where the file does not say, as in QuPath."""
    properties = _properties(feature)
    stated = [properties.get(key) for key in ('objectType', 'object_type', 'type')]
    stated.append(feature.get('id') if isinstance(feature, dict) else None)
    names = [FORMER_TYPES.get(name, name) for name in stated if isinstance(name, str)]
    return next((name for name in names if name in OBJECT_TYPES), 'annotation')


def _outline(name: str, feature: Any, kind: str) -> Outline:
    if not isinstance(feature, dict) or not isinstance(feature.get('properties') or {}, dict):
        return Outline(name, fault=NO_FEATURE)
    classification = _classification(_properties(feature).get('classification'))
    if classification is None:
        return Outline(name, fault=NO_CLASS)
    nucleus = feature.get('nucleusGeometry')
    area, fault = _area(nucleus if nucleus else feature.get('geometry'))
    return Outline(name, area, classification, fault or (CELL if kind == 'cell' and not nucleus else ''))


def _classification(given: Any) -> str | None:
    """Name of a class, `Tumor: Positive` of a derived one; empty without a class, None where there is no name in it."""
    names: list[Any] = []
    while isinstance(given, dict) and given:
        own = given.get('names', given.get('name'))
        names = [*(own if isinstance(own, list) else [own]), *names]
        given = given.get('parentClass')
    if given:
        names = [given, *names]
    names = [name for name in names if name not in (None, '')]
    if not all(isinstance(name, str) for name in names):
        return None
    return ': '.join(map(one_line, names))


def _area(geometry: Any) -> tuple[Area, str]:
    """The valid parts of a geometry, and what is wrong with it."""
    if not geometry:
        return [], 'no geometry'
    kind = geometry.get('type') if isinstance(geometry, dict) else None
    if kind not in ('Polygon', 'MultiPolygon'):
        is_name = isinstance(kind, str) and kind.isalpha() and len(kind) < 20
        return [], f'a {kind}, no polygon' if is_name else NO_FEATURE
    coordinates = geometry.get('coordinates')
    parts = [coordinates] if kind == 'Polygon' else coordinates
    if not isinstance(parts, list):
        return [], NO_FEATURE
    area: Area = []
    faults = []
    for part in parts:
        if part == []:
            continue
        rings = [ring_of(ring) for ring in part] if isinstance(part, list) else [(None, NO_FEATURE)]
        faults += [fault for _, fault in rings if fault]
        # Without its outer ring a part has no area.
        if rings[0][0] is not None:
            area.append([ring for ring, _ in rings if ring is not None])
    return area, next(iter(faults), '' if area else 'an empty polygon')


def _annotated(shapes: Sequence[tuple[str, Outline]]) -> set[int]:
    """Which annotations hold other outlines, and others as large or far above a nucleus: some areas are empty."""
    holders = _holders(shapes)
    if not holders:
        return set()
    sizes = {index: square_pixels(outline) for index, (_, outline) in enumerate(shapes) if not outline.fault}
    plain = sorted(size for index, size in sizes.items() if index not in holders)
    usual = plain[(len(plain) - 1) // 2]
    # Most may be lines without area.
    least = min(TIMES_THE_MEDIAN * usual or inf, *(sizes[index] for index in holders))
    return holders | {index for index, size in sizes.items() if shapes[index][0] == 'annotation' and size >= least}


def _holders(shapes: Sequence[tuple[str, Outline]]) -> set[int]:
    """Which annotations hold other outlines and are far larger than the usual outline, which holds none."""
    sound = [index for index, (_, outline) in enumerate(shapes) if not outline.fault]
    if len(sound) < 2:
        return set()
    sizes = np.array([square_pixels(shapes[index][1]) for index in sound])
    rings = [np.concatenate([outer for outer, *_ in shapes[index][1].area]) for index in sound]
    low, high = np.array([ring.min(axis=0) for ring in rings]), np.array([ring.max(axis=0) for ring in rings])
    middles = np.array([ring.mean(axis=0) for ring in rings])
    # From left to right, so that few have to be looked at for each.
    order = np.argsort(low[:, 0])
    lefts = low[order, 0]
    holders = set()
    for place in np.flatnonzero(sizes >= TIMES_A_NUCLEUS * sizes.min()):
        kind, outline = shapes[sound[place]]
        # What is to be ignored may hold nuclei and be of any size.
        if kind != 'annotation' or _star(outline)[:6] not in ('', 'region'):
            continue
        # A pixel more, as what was found at a border may stand over it.
        least, most = low[place] - 1, high[place] + 1
        near = order[np.searchsorted(lefts, least[0]) : np.searchsorted(lefts, most[0], 'right')]
        within = (low[near] >= least).all(axis=1) & (high[near] <= most).all(axis=1) & (sizes[near] < sizes[place])
        inner = middles[near[within]]
        if len(inner) and any(points_in_poly(inner, outer).any() for outer, *_ in outline.area):
            holders.add(int(place))
    plain = np.sort(np.delete(sizes, list(holders)))
    usual = plain[(len(plain) - 1) // 2]
    return {sound[place] for place in holders if sizes[place] >= TIMES_A_NUCLEUS * usual}
