"""Nuclei drawn in any tool that writes COCO JSON.

Source: the COCO data format, cocodataset.org/#format-data.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmgfnuc.datasets.canonical import CLASSES, BadFileError, Mask, read_image

from .base import Content, Options, Sample, faulty
from .outlines import Area, Outline, draw, mark_crossings, ring_of
from .own_files import class_names, inside, one_line, read_groups, read_json, source_root
from .polygons import Box, Ring

# Fields of the entries of each list, and their types.
FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    'images': {'id': (int, str), 'file_name': (str,)},
    'annotations': {'id': (int, str), 'image_id': (int, str), 'category_id': (int, str)},
    'categories': {'id': (int, str), 'name': (str,)},
}
BOX = 'no segmentation: a box is not an outline'
NO_POLYGON = 'no list of x, y, x, y, ...'
NO_RUNS = 'its counts are not run lengths'


def list_coco(source: Path, options: Options) -> list[Sample]:
    """Find the images that the JSON names."""
    root, content = _read_coco_json(source, options)
    index = _indices(content)
    files = {entry['id']: root / options['images'] / inside(entry['file_name']) for entry in content['images']}
    drawn: dict[Any, list[dict]] = defaultdict(list)
    for entry in content['annotations']:
        drawn[entry['image_id']].append(entry)
    groups = read_groups(root, [path.stem for path in files.values()], options['group-pattern'])
    samples = [
        Sample(image.stem, groups[image.stem], partial(read_coco, image, entry, drawn[entry['id']], index), image=image)
        for image, entry in zip(files.values(), content['images'], strict=True)
    ]
    path = root / options['annotations']
    for image_id in drawn.keys() - files:
        name = f'image {_short(image_id)}'
        problem = f'{len(drawn[image_id])} annotations of {name}, which "images" lacks; add it or remove them'
        samples.append(faulty(name, '', f'{path}: {problem}'))
    return samples


def coco_classes(source: Path, options: Options) -> list[str]:
    """Background and the categories in their order; two classes where there are fewer than two categories."""
    return class_names(_names(_read_coco_json(source, options)[1]))


def read_coco(
    image: Path, entry: Mapping[str, Any], drawn: Sequence[Mapping[str, Any]], index: Mapping[Any, int]
) -> Content:
    """Read an image and the nuclei drawn on it; a crowd (`iscrowd`) does not separate nuclei and is ignored.

    An annotation with a fault does not affect others: it is left out, and its area is ignored.
    """
    picture = read_image(image)
    shape = picture.shape[:2]
    stated = entry.get('height') or shape[0], entry.get('width') or shape[1]
    if stated != shape:
        what = f'size {shape} differs from {_short(stated)} of the JSON'
        raise BadFileError(image, what, 'annotate the image at this size')
    outlines = [_outline(annotation, shape, index) for annotation in drawn]
    # Polygons come before masks.
    outlines.sort(key=lambda outline: (outline.ignored, outline.mask is not None))
    drawing = draw(image, mark_crossings(outlines, shape), shape, own=True)
    ignore = drawing.unsure if drawing.unsure.any() else None
    types = np.array([0, *(int(outline.kind) for outline in outlines)], np.uint8)[drawing.instances]
    typed = max(index.values(), default=0) > 1
    return Content(picture, drawing.instances, ignore, types if typed else None, drawing.notices)


def decode_rle(segmentation: Mapping[str, Any], shape: tuple[int, int]) -> tuple[Mask | None, str]:
    """Decode a run-length encoded mask of COCO: lengths of runs of 0 and 1 in turn, column by column.

    Args:
        segmentation: `size`, H and W, and `counts`, a list or a compressed string.
        shape: H, W of the image.

    Shape:
        - returns: (H, W), or None and why it cannot be decoded.
    """
    size, counts = segmentation.get('size'), segmentation.get('counts')
    if size != list(shape):
        return None, 'a mask of another size than the image'
    try:
        runs = np.array(uncompressed(counts) if isinstance(counts, str) else counts)
    except (TypeError, ValueError, OverflowError):
        return None, NO_RUNS
    if runs.ndim != 1 or (runs.size and runs.dtype.kind not in 'iu'):
        return None, NO_RUNS
    pixels = shape[0] * shape[1]
    # Each by itself: a sum of large ones wraps around, and would be right by chance.
    if not ((runs >= 0) & (runs <= pixels)).all() or runs.sum() != pixels:
        return None, 'its run lengths do not fill the image'
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs.astype(np.int64)).reshape(shape[::-1]).T, ''


def uncompressed(counts: str) -> list[int]:
    """Run lengths from their compressed form.

    A number is written in groups of 5 bits, the lowest first; each group is a character counted from '0', whose bit 5
    says that another one follows, and the highest bit of the last group is the sign. From the fourth run on a number
    is the difference to the run before the last.

    Source: cocodataset/cocoapi, common/maskApi.c, `rleFrString`.
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


def _outline(annotation: Mapping[str, Any], shape: tuple[int, int], index: Mapping[Any, int]) -> Outline:
    segmentation = annotation.get('segmentation')
    wrong = _wrong_field(annotation, index)
    kind, crowd = str(index.get(annotation['category_id'], 0)), annotation.get('iscrowd') == 1
    if isinstance(segmentation, Mapping):
        mask, fault = decode_rle(segmentation, shape)
        place = None if mask is None else _cut_out(mask)
        return Outline(_name(annotation), [], kind, wrong or fault, crowd, place)
    area, fault = _area(segmentation)
    return Outline(_name(annotation), area, kind, wrong or fault, crowd)


def _wrong_field(annotation: Mapping[str, Any], index: Mapping[Any, int]) -> str:
    """Why the nucleus of an annotation is unknown, wherever it lies; empty where nothing is wrong."""
    if annotation['category_id'] not in index:
        return f'unknown category {_short(annotation["category_id"])}, or background'
    crowd = annotation.get('iscrowd')
    return '' if crowd in (None, 0, 1) else f'"iscrowd" is {_short(crowd)}, not 0 or 1'


def _cut_out(mask: Mask) -> tuple[Box, Mask]:
    """The part of an image that a mask fills, and the mask of it: there is one for each nucleus."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = tuple(slice(side[0], side[-1] + 1) if side.size else slice(0, 0) for side in (rows, columns))
    return (box[0], box[1]), mask[box].copy()


def _area(segmentation: Any) -> tuple[Area, str]:
    if not segmentation:
        return [], BOX
    if not isinstance(segmentation, list):
        return [], NO_POLYGON
    rings = [_ring(flat) for flat in segmentation]
    return [[ring] for ring, _ in rings if ring is not None], next((fault for _, fault in rings if fault), '')


def _ring(flat: Any) -> tuple[Ring | None, str]:
    if not isinstance(flat, list) or len(flat) % 2:
        return None, NO_POLYGON
    return ring_of(list(zip(flat[::2], flat[1::2], strict=True)))


def _name(annotation: Mapping[str, Any]) -> str:
    return f'annotation {_short(annotation["id"])}'


def _short(value: Any) -> str:
    """A value of the file in one line."""
    text = one_line(str(value))
    return text if len(text) <= 40 else f'{text[:40]}...'


def _read_coco_json(source: Path, options: Options) -> tuple[Path, dict[str, Any]]:
    root = source_root(source, options['images'], options['annotations'])
    path = root / options['annotations']
    content = read_json(path)
    for key, fields in FIELDS.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise BadFileError(path, f'no list "{key}"', 'export it as COCO JSON with images, annotations, categories')
        for number, entry in enumerate(entries, start=1):
            if not isinstance(entry, dict) or not all(isinstance(entry.get(f), kinds) for f, kinds in fields.items()):
                raise BadFileError(path, f'entry {number} of "{key}" lacks {", ".join(fields)}', 'export it again')
        if len({entry['id'] for entry in entries}) < len(entries):
            raise BadFileError(path, f'two entries of "{key}" have one id', 'export it again')
    return root, content


def _names(content: Mapping[str, Any]) -> list[str]:
    # Some tools list the background too, though nothing can be drawn as such; some list a name twice.
    return [n for n in dict.fromkeys(one_line(entry['name']) for entry in content['categories']) if n != CLASSES[0]]


def _indices(content: Mapping[str, Any]) -> dict[Any, int]:
    """Class of each category."""
    names = _names(content)
    categories = {entry['id']: one_line(entry['name']) for entry in content['categories']}
    return {category: names.index(name) + 1 for category, name in categories.items() if name in names}
