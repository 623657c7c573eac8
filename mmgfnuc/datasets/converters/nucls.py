"""NuCLS, single-rater datasets: nuclei of breast cancer, part of them outlined, part of them only boxed.

Source: Amgad et al., GigaScience 11, giac037 (2022), doi:10.1093/gigascience/giac037. Layout, types and folds after the
authors' code, github.com/PathologyDataScience/NuCLS.
"""

import csv
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.canonical import CLASSES, BadFileError, Mask, read_image
from mmgfnuc.datasets.splits import Split
from mmgfnuc.errors import UserError

from .base import Content, Converter, Options, Sample, faulty
from .polygons import rasterise
from .sources import files_by_stem, find_root

TYPES = (
    'tumor_nonMitotic',
    'tumor_mitotic',
    'nonTILnonMQ_stromal',
    'macrophage',
    'lymphocyte',
    'plasma_cell',
    'other_nucleus',
    'AMBIGUOUS',
)
COLUMNS = ('main_classification', 'type', 'xmin', 'ymin', 'xmax', 'ymax', 'coords_x', 'coords_y')
MPP = 0.2
FOLDS = ('1', '2', '3', '4', '5')
# In the first channel of a mask: annotated area without a nucleus. 0 is the margin around it.
ANNOTATED = 253
BARCODE = re.compile(r'(TCGA-\w{2}-\w{4})-[A-Z0-9]+')

Row = dict[str, str]


def list_samples(source: Path, options: Options) -> list[Sample]:
    """Pair image, coordinates and mask of all fields of view."""
    root = find_root(source, 'rgb', 'csv', 'mask')
    if root is None:
        raise UserError(f'{source} holds no "rgb", "csv" and "mask" side by side; give the folder that holds them')
    images = files_by_stem(root / 'rgb', '.png')
    tables = files_by_stem(root / 'csv', '.csv')
    masks = files_by_stem(root / 'mask', '.png')
    fold_of_slide = read_folds(root)
    samples = []
    for stem, image in images.items():
        barcode = BARCODE.match(stem)
        if stem not in tables or stem not in masks:
            samples.append(faulty(stem, stem, f'{image}: no csv/{stem}.csv or no mask/{stem}.png; add it'))
        elif barcode is None:
            problem = f'{image}: the name starts with no TCGA barcode of a slide; get the original file'
            samples.append(faulty(stem, stem, problem))
        else:
            read = partial(read_sample, image, tables[stem], masks[stem])
            # More than one slide may be of one patient.
            samples.append(Sample(stem, barcode[1], read, MPP, part=fold_of_slide.get(barcode[0])))
    for stem in tables.keys() - images:
        samples.append(faulty(stem, stem, f'{tables[stem]}: no rgb/{stem}.png; add it'))
    return samples


def read_folds(root: Path) -> dict[str, str]:
    """Fold in whose test part each slide stands; empty where the authors' files of folds are missing."""
    found: dict[str, str] = {}
    for fold in FOLDS:
        path = root / 'train_test_splits' / f'fold_{fold}_test.csv'
        if not path.is_file():
            return {}
        found |= {row['slide_name']: fold for row in _read_table(path, ('slide_name',))}
    return found


def read_sample(image: Path, table: Path, mask: Path) -> Content:
    """Read one field of view.

    Outlined nuclei become instances. Unknown, and therefore ignored, is the inside of a box that has no outline, and
    the margin that was not annotated.
    """
    picture = read_image(image)
    shape = picture.shape[:2]
    # The authors' database has the field of view among its nuclei.
    rows = [row for row in _read_table(table, COLUMNS) if not row['main_classification'].startswith('fov')]
    boxes = [_box(table, row) for row in rows]
    outlined = [index for index, row in enumerate(rows) if row['type'] == 'polyline']
    # Small nuclei in front, as in the authors' masks.
    outlined.sort(key=lambda index: np.prod(boxes[index][2:] - boxes[index][:2]))
    instances = rasterise([_outline(table, rows[index]) for index in outlined], shape)
    types = np.array([0, *(_type(table, rows[index]) for index in outlined)], np.uint8)
    ignore = _read_margin(mask, shape)
    for index in set(range(len(rows))).difference(outlined):
        left, top, right, bottom = np.clip(boxes[index], 0, None)
        ignore[top : bottom + 1, left : right + 1] = True
    return Content(picture, instances, ignore & (instances == 0), types[instances])


def _read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    try:
        with path.open(newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            rows, there = list(reader), reader.fieldnames or ()
    except (OSError, ValueError, csv.Error) as error:
        raise BadFileError(path, f'unreadable ({error})', 'get the original file') from error
    missing = [name for name in columns if name not in there]
    if missing:
        raise BadFileError(path, f'no column {", ".join(missing)}', 'get the original file')
    if any(row[name] is None for row in rows for name in columns):
        raise BadFileError(path, 'a row ends early', 'get the original file')
    return rows


def _box(path: Path, row: Row) -> NDArray[np.intp]:
    return np.array([_numbers(path, row[side])[0] for side in ('xmin', 'ymin', 'xmax', 'ymax')]).round().astype(np.intp)


def _outline(path: Path, row: Row) -> NDArray[np.floating]:
    x, y = _numbers(path, row['coords_x']), _numbers(path, row['coords_y'])
    if len(x) != len(y) or len(x) < 3:
        what = f'an outline of {len(x)} x and {len(y)} y'
        raise BadFileError(path, what, 'give at least 3 points, each with x and y')
    return np.stack([x, y], axis=1)


def _numbers(path: Path, text: str) -> NDArray[np.floating]:
    try:
        numbers = np.array([float(number) for number in text.split(',')])
    except ValueError as error:
        raise BadFileError(path, f'{text!r} is not a list of numbers', 'get the original file') from error
    if not np.isfinite(numbers).all():
        raise BadFileError(path, f'{text!r} is not finite', 'get the original file')
    return numbers


def _type(path: Path, row: Row) -> int:
    name = row['main_classification']
    if name not in TYPES:
        raise BadFileError(path, f'main_classification {name!r}', f'give one of {", ".join(TYPES)}')
    return TYPES.index(name) + 1


def _read_margin(path: Path, shape: tuple[int, int]) -> Mask:
    codes = read_image(path)[..., 0]
    if codes.shape != shape:
        raise BadFileError(path, f'size {codes.shape} differs from {shape} of the image', 'get the original file')
    if not (codes == ANNOTATED).any():
        raise BadFileError(path, f'no pixel is {ANNOTATED}, the code of the field of view', 'get the original file')
    return codes == 0


def _official(samples: Sequence[Sample]) -> dict[str, Split]:
    known = [sample for sample in samples if sample.part is not None]
    splits = {
        f'official-{fold}': {
            'train': sorted(sample.id for sample in known if sample.part != fold),
            'val': sorted(sample.id for sample in known if sample.part == fold),
        }
        for fold in FOLDS
    }
    return splits if all(split['val'] for split in splits.values()) else {}


CONVERTERS = (
    Converter(
        name='nucls',
        title='NuCLS',
        layout="""\
  SOURCE/rgb/TCGA-A1-A0SP-DX1_id-..._left-..._top-..._bottom-..._right-....png
  SOURCE/csv/<same>.csv      a line for each nucleus: main_classification, type (polyline or rectangle),
                             xmin, ymin, xmax, ymax, coords_x, coords_y in pixels
  SOURCE/mask/<same>.png     tells the annotated field of view from the margin around it
  SOURCE/train_test_splits/fold_1_test.csv to fold_5_test.csv   (optional: splits by hospital)
Nuclei with an outline become instances; the inside of a box without one, and the margin, become ignore/.""",
        licence='CC0 1.0',
        citation='Amgad et al.: NuCLS: A scalable crowdsourcing approach and dataset for nucleus classification and '
        'segmentation in breast cancer. GigaScience 11, giac037 (2022), doi:10.1093/gigascience/giac037',
        page='https://sites.google.com/view/nucls',
        list_samples=list_samples,
        classes=[CLASSES[0], *TYPES],
        images=1744,
        splits=_official,
        overlaps='The nucleus with the smaller box keeps the pixels that two outlines share.',
    ),
)
