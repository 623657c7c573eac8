"""Generic sources: the user's own images with label maps, binary masks, COCO or GeoJSON annotations."""

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from skimage.measure import label as connected_components

from mmgfnuc.datasets.canonical import BadFileError, Mask, read_image, read_label_map
from mmgfnuc.datasets.images import IMAGE_SUFFIXES
from mmgfnuc.datasets.validate import BINARY_MAP, LARGEST_SHARE, many_under_one_id

from .base import SWITCH, Content, Converter, Option, Options, Sample, same_size
from .coco import coco_classes, list_coco
from .geojson import geojson_classes, list_geojson
from .own_files import GROUPS_LAYOUT, OWN_OPTIONS, folder_option, own_terms, paired_samples

MAP_SUFFIXES = ('.png', '.tif', '.tiff', '.npy')
TOUCHING = (
    'a binary mask does not tell nuclei apart: each connected region becomes one nucleus, so nuclei that touch are '
    'counted as one; do not trust instance scores on them'
)
COVERED = 'One that loses more than half is left out, the rest of it ignored.'
MOST_OF_THE_IMAGE = (
    'masks of which nuclei cover more than half; if they are exchanged with the background, give --invert'
)
MOST_OF_THE_MAP = 'label maps of which nuclei cover more than half; see that the background is 0, not 1 or 65535'


def list_folders(source: Path, options: Options) -> list[Sample]:
    """Pair images and label maps."""
    return paired_samples(source, options, 'labels', MAP_SUFFIXES, read_folders)


def list_masks(source: Path, options: Options) -> list[Sample]:
    """Pair images and binary masks; warns that masks do not separate nuclei."""
    read = partial(read_masks, invert=options['invert'] == 'yes')
    samples = paired_samples(source, options, 'masks', MAP_SUFFIXES, read)
    warnings.warn(TOUCHING, stacklevel=2)
    return samples


def read_folders(image: Path, path: Path) -> Content:
    """Read an image and its label map.

    Raises:
        BadFileError: The map is binary or one of classes: it has one id for many nuclei.
    """
    content = Content(read_image(image), read_label_map(path))
    for kind, what, fix in many_under_one_id(content.instances):
        raise BadFileError(path, what, 'take the source "masks"' if kind == BINARY_MAP else fix)
    content = replace(content, notices=_crowded(content.instances > 0, MOST_OF_THE_MAP))
    same_size(image, content, {'instances': path})
    return content


def read_masks(image: Path, path: Path, invert: bool = False) -> Content:
    """Read an image and its binary mask; each 8-connected region becomes an instance.

    With `invert` 0 is the nuclei.
    """
    mask = read_label_map(path)
    values = np.unique(mask[mask > 0])
    if len(values) > 1:
        what = f'{len(values)} values besides 0, so it is not a binary mask'
        raise BadFileError(path, what, 'take the source "folders" for label maps, or save 0 and 255 alone')
    nuclei = (mask > 0) != invert
    instances = connected_components(nuclei).astype(np.int32)
    content = Content(read_image(image), instances, notices=_crowded(nuclei, MOST_OF_THE_IMAGE))
    same_size(image, content, {'instances': path})
    return content


def _crowded(nuclei: Mask, what: str) -> dict[str, list[str]]:
    """Give the notice about a foreground above half of the image; None for any other."""
    share = nuclei.mean() if nuclei.size else 0.0
    return {what: [f'{share:.0%}']} if share > LARGEST_SHARE else {}


IMAGES = folder_option('images', 'images')
INVERT = Option('invert', SWITCH, 'no', 'take 0 for nuclei, the other value for background')
IMAGES_LAYOUT = f'SOURCE/images/<stem>.png   8-bit RGB; also {" ".join(IMAGE_SUFFIXES[1:])}'

# Nothing is published of them, unless their owner says so.
_OwnSource = partial(Converter, licence=None, citation='', page='your own files', read_terms=own_terms)

CONVERTERS = (
    _OwnSource(
        name='folders',
        title='images with label maps',
        layout=f"""\
  {IMAGES_LAYOUT}
  SOURCE/labels/<stem>.png   8 or 16 bit, 0 = background, nuclei numbered from 1; also .tif .tiff .npy of integers
{GROUPS_LAYOUT}""",
        list_samples=list_folders,
        options=(IMAGES, folder_option('labels', 'label maps'), *OWN_OPTIONS),
    ),
    _OwnSource(
        name='masks',
        title='images with binary masks',
        layout=f"""\
  {IMAGES_LAYOUT}
  SOURCE/masks/<stem>.png    0 = background, one other value = nucleus; also .tif .tiff .npy of integers
{GROUPS_LAYOUT}
WARNING: {TOUCHING}.""",
        list_samples=list_masks,
        overlaps='A mask does not tell nuclei apart: each 8-connected region is one.',
        options=(IMAGES, folder_option('masks', 'binary masks'), INVERT, *OWN_OPTIONS),
    ),
    _OwnSource(
        name='coco',
        title='COCO JSON',
        layout=f"""\
  SOURCE/annotations.json    images, annotations (polygons or RLE), categories = nucleus types
  SOURCE/images/...          the files that "file_name" names, 8-bit RGB
{GROUPS_LAYOUT}""",
        list_samples=list_coco,
        read_classes=coco_classes,
        overlaps=f'The nucleus that comes first keeps shared pixels; polygons come before RLE. {COVERED}',
        options=(IMAGES, Option('annotations', (), 'annotations.json', 'JSON file in the source'), *OWN_OPTIONS),
    ),
    _OwnSource(
        name='geojson',
        title='QuPath GeoJSON',
        layout=f"""\
  {IMAGES_LAYOUT}
  SOURCE/annotations/<stem>.geojson   objects of QuPath, in pixels: annotations, detections, cells; their classes are
                                      the nucleus types; also .json, .geojson.gz, <image.png>.geojson
{GROUPS_LAYOUT}""",
        list_samples=list_geojson,
        read_classes=geojson_classes,
        overlaps=f'The nucleus that comes first keeps shared pixels; annotations come before detections. {COVERED}',
        options=(IMAGES, folder_option('annotations', 'GeoJSON files'), *OWN_OPTIONS),
    ),
)
