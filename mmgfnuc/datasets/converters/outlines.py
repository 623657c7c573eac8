"""Nuclei drawn by hand: COCO JSON, and GeoJSON as QuPath exports it.

Source: the COCO data format, cocodataset.org/#format-data; GeoJSON, RFC 7946; QuPath's documentation, "Exporting
annotations". Code: own.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.canonical import CLASSES, BadFileError, LabelMap, Mask, read_image
from mmgfnuc.errors import UserError

from .base import Content, Options, Sample, faulty
from .own_files import inside, paired_samples, read_groups, read_json, source_root
from .polygons import Ring, rasterise
from .sources import files_by_stem

LARGEST_TYPE = np.iinfo(np.uint8).max
DETECTED = ('detection', 'cell')
GEOJSON_SUFFIXES = ('.geojson', '.json')

# A nucleus: parts of an area, each an outline and its holes.
Area = list[list[Ring]]


def draw(areas: Sequence[Area], shape: tuple[int, int]) -> LabelMap:
    """Instance map of areas: area k has id k + 1; the first of two keeps the pixels that they share.

    Args:
        areas: x and y from the corner of the image, as COCO and QuPath count them: the first pixel is 0 to 1.
        shape: H, W in pixels.

    Shape:
        - returns: (H, W)

    Raises:
        UserError: An area lies wholly outside of the image.
    """
    for number, area in enumerate(areas, start=1):
        points = np.concatenate([ring for part in area for ring in part])
        if (points.max(axis=0) <= 0).any() or (points.min(axis=0) >= shape[::-1]).any():
            raise UserError(f'outline {number} lies outside of the image {shape}; give x, y in pixels of this image')
    owners = [number for number, area in enumerate(areas, start=1) for _ in area]
    parts = [[ring - 0.5 for ring in part] for area in areas for part in area]
    return np.array([0, *owners], np.int32)[rasterise(parts, shape)]


def list_coco(source: Path, options: Options) -> list[Sample]:
    """Find the images that the JSON names."""
    root, content = _read_coco_json(source, options)
    index = {category: number for number, (category, _) in enumerate(_categories(content), start=1)}
    files = {entry['id']: root / options['images'] / inside(entry['file_name']) for entry in content['images']}
    drawn: dict[Any, list[dict]] = defaultdict(list)
    for entry in content['annotations']:
        drawn[entry['image_id']].append(entry)
    groups = read_groups(root, [path.stem for path in files.values()], options['group-pattern'])
    samples = [
        Sample(path.stem, groups[path.stem], partial(read_coco, path, entry, drawn[entry['id']], index))
        for path, entry in zip(files.values(), content['images'], strict=True)
    ]
    for image in drawn.keys() - files:
        problem = f'{len(drawn[image])} annotations of image {image}, which "images" lacks; add it or remove them'
        samples.append(faulty(f'image {image}', '', f'{root / options["annotations"]}: {problem}'))
    return samples


def coco_classes(source: Path, options: Options) -> list[str]:
    """Background and the categories in their order; two classes where there are fewer than two categories."""
    return _classes([name for _, name in _categories(_read_coco_json(source, options)[1])])


def _classes(names: Sequence[str]) -> list[str]:
    if len(names) > LARGEST_TYPE:
        raise UserError(f'{len(names)} nucleus types; at most {LARGEST_TYPE} can be told apart')
    return [CLASSES[0], *names] if len(names) > 1 else CLASSES


def read_coco(
    image: Path, entry: Mapping[str, Any], drawn: Sequence[Mapping[str, Any]], index: Mapping[Any, int]
) -> Content:
    """Read an image and the nuclei drawn on it; a crowd (`iscrowd`) tells no nuclei apart and is ignored."""
    picture = read_image(image)
    shape = picture.shape[:2]
    stated = entry.get('height') or shape[0], entry.get('width') or shape[1]
    if stated != shape:
        raise BadFileError(image, f'size {shape} differs from {stated} of the JSON', 'annotate the image at this size')
    for annotation in drawn:
        if annotation['category_id'] not in index:
            name = f'{image.name}: annotation {annotation["id"]}'
            raise UserError(f'{name}: unknown category {annotation["category_id"]}; add it to "categories"')
    nuclei = [annotation for annotation in drawn if not annotation.get('iscrowd')]
    instances = _draw_coco(image, nuclei, shape)
    crowd = _draw_coco(image, [annotation for annotation in drawn if annotation.get('iscrowd')], shape) > 0
    crowd &= instances == 0
    types = np.array([0, *(index[annotation['category_id']] for annotation in nuclei)], np.uint8)
    return Content(picture, instances, crowd if crowd.any() else None, types[instances] if len(index) > 1 else None)


def _draw_coco(image: Path, drawn: Sequence[Mapping[str, Any]], shape: tuple[int, int]) -> LabelMap:
    """Instance map of annotations; polygons come before masks, and of each kind the first one keeps shared pixels."""
    areas: dict[int, Area] = {}
    masks: dict[int, Mask] = {}
    for number, annotation in enumerate(drawn, start=1):
        segmentation = annotation.get('segmentation')
        name = f'{image.name}: annotation {annotation["id"]}'
        if isinstance(segmentation, Mapping):
            masks[number] = decode_rle(segmentation, shape, name)
        else:
            areas[number] = _coco_area(segmentation, name)
    instances = np.array([0, *areas], np.int32)[draw(list(areas.values()), shape)]
    for number, mask in masks.items():
        instances[mask & (instances == 0)] = number
    return instances


def decode_rle(segmentation: Mapping[str, Any], shape: tuple[int, int], name: str) -> Mask:
    """Decode a run-length encoded mask of COCO: lengths of runs of 0 and 1 in turn, column by column.

    Args:
        segmentation: `size`, H and W, and `counts`, a list or a compressed string.
        shape: H, W of the image.
        name: for errors.

    Shape:
        - returns: (H, W)

    Raises:
        UserError: The size is another one, or the runs do not fill it.
    """
    size, counts = segmentation.get('size'), segmentation.get('counts')
    if size != list(shape):
        raise UserError(f'{name}: RLE of size {size}, image {list(shape)}; encode the mask at the size of the image')
    try:
        runs = np.array(uncompressed(counts) if isinstance(counts, str) else counts, np.int64).reshape(-1)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f'{name}: counts are no run lengths ({error}); export the file again') from error
    if runs.min(initial=0) < 0 or runs.sum() != shape[0] * shape[1]:
        raise UserError(f'{name}: run lengths do not fill the {shape[0] * shape[1]} pixels; export the file again')
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape[::-1]).T


def uncompressed(counts: str) -> list[int]:
    """Run lengths from their compressed form.

    A number is written in groups of 5 bits, the lowest first; each group is a character counted from '0', whose bit 5
    says that another one follows, and the highest bit of the last group is the sign. From the fourth run on a number
    is the difference to the run before the last.

    Source: cocodataset/cocoapi, common/maskApi.c, `rleFrString`; code: own.
    """
    runs: list[int] = []
    value = shift = 0
    for code in counts.encode('ascii'):
        group = code - ord('0')
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            signed = value - (1 << shift) if group & 16 else value
            runs.append(signed + runs[-2] if len(runs) > 2 else signed)
            value = shift = 0
    return runs


def list_geojson(source: Path, options: Options) -> list[Sample]:
    """Pair images and GeoJSON files."""
    read = partial(read_geojson, classes=geojson_classes(source, options))
    return paired_samples(source, options, 'annotations', GEOJSON_SUFFIXES, read)


def geojson_classes(source: Path, options: Options) -> list[str]:
    """Background and the names of the classifications, sorted; two classes where there are fewer than two names."""
    root = source_root(source, options['images'], options['annotations'])
    names: set[str] = set()
    for path in files_by_stem(root / options['annotations'], *GEOJSON_SUFFIXES).values():
        # A bad file is reported with those of all other images when it is read for its own.
        with suppress(UserError):
            names |= {name for name in map(_classification, _features(path)) if name}
    return _classes(sorted(names - {CLASSES[0]}))


def read_geojson(image: Path, path: Path, classes: Sequence[str]) -> Content:
    """Read an image and the nuclei drawn on it."""
    picture = read_image(image)
    areas, types = [], []
    for number, feature in enumerate(_features(path), start=1):
        name = _classification(feature)
        if len(classes) > len(CLASSES) and not name:
            raise BadFileError(path, f'feature {number} has no classification', 'classify all nuclei, or none')
        if name == CLASSES[0]:
            raise BadFileError(path, f'feature {number} is classified as {name}', 'remove it, or name its nucleus type')
        areas.append(_geojson_area(feature, f'{path}: feature {number}'))
        types.append(classes.index(name) if name in classes else 1)
    try:
        instances = draw(areas, picture.shape[:2])
    except UserError as error:
        raise UserError(f'{path}: {error}') from error
    typed = len(classes) > len(CLASSES)
    return Content(picture, instances, types=np.array([0, *types], np.uint8)[instances] if typed else None)


def _read_coco_json(source: Path, options: Options) -> tuple[Path, dict[str, Any]]:
    root = source_root(source, options['images'], options['annotations'])
    path = root / options['annotations']
    content = read_json(path)
    for key, fields in (
        ('images', ('id', 'file_name')),
        ('annotations', ('id', 'image_id', 'category_id')),
        ('categories', ('id', 'name')),
    ):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise BadFileError(path, f'no list "{key}"', 'export it as COCO JSON with images, annotations, categories')
        for entry in entries:
            if not isinstance(entry, dict) or not all(isinstance(entry.get(field), int | str) for field in fields):
                raise BadFileError(path, f'an entry of "{key}" lacks {", ".join(fields)}', 'export it again')
        if len({entry['id'] for entry in entries}) < len(entries):
            raise BadFileError(path, f'two entries of "{key}" have one id', 'export it again')
    return root, content


def _categories(content: Mapping[str, Any]) -> list[tuple[Any, str]]:
    # Some tools list the background too, though nothing can be drawn as such.
    return [(entry['id'], entry['name']) for entry in content['categories'] if entry['name'] != CLASSES[0]]


def _coco_area(segmentation: Any, name: str) -> Area:
    if not segmentation:
        raise UserError(f'{name}: no segmentation; a box is no outline, draw the nucleus or remove it')
    try:
        rings = [np.array(ring, float).reshape(-1, 2) for ring in segmentation]
    except (TypeError, ValueError) as error:
        raise UserError(f'{name}: a polygon is no list of x, y, x, y, ...; export it again') from error
    return [[_enclosing(ring, name)] for ring in rings]


def _enclosing(ring: NDArray[np.floating], name: str) -> Ring:
    distinct = len(np.unique(ring, axis=0))
    if distinct < 3:
        raise UserError(f'{name}: {distinct} different points enclose nothing; give at least 3, or remove it')
    if not np.isfinite(ring).all():
        raise UserError(f'{name}: a coordinate is not finite; give pixels')
    return ring


def _features(path: Path) -> list[dict[str, Any]]:
    content = read_json(path)
    features = content.get('features', [content]) if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(
        isinstance(feature, dict)
        and isinstance(feature.get('geometry'), dict)
        and isinstance(feature.get('properties') or {}, dict)
        and isinstance((feature.get('properties') or {}).get('classification') or {}, dict)
        for feature in features
    ):
        raise BadFileError(path, 'no features as QuPath writes them', 'export it from QuPath as a FeatureCollection')
    # Where QuPath has found nuclei, what was annotated is the region in which it looked for them.
    detected = [feature for feature in features if _object_type(feature) in DETECTED]
    return detected or features


def _object_type(feature: Mapping[str, Any]) -> str:
    return str((feature.get('properties') or {}).get('objectType'))


def _classification(feature: Mapping[str, Any]) -> str:
    classification = (feature.get('properties') or {}).get('classification') or {}
    return str(classification.get('name') or '')


def _geojson_area(feature: Mapping[str, Any], name: str) -> Area:
    # A cell of QuPath has two outlines: its own and that of its nucleus.
    geometry = feature.get('nucleusGeometry') or feature['geometry']
    kind, coordinates = geometry.get('type'), geometry.get('coordinates')
    if kind not in ('Polygon', 'MultiPolygon'):
        raise UserError(f'{name} is a {kind}; draw nuclei as polygons, and export nothing else')
    try:
        parts = [coordinates] if kind == 'Polygon' else coordinates
        rings = [[np.array(ring, float).reshape(len(ring), -1)[:, :2] for ring in part] for part in parts]
    except (TypeError, ValueError) as error:
        raise UserError(f'{name}: its coordinates are no rings of points; export it again') from error
    return [[_enclosing(ring, name) for ring in part] for part in rings]
