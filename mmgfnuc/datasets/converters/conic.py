"""Lizard, and CoNIC: its patches as given out for the challenge.

Sources: Graham et al., ICCV Workshops 2021, 684-693, arXiv:2108.11195 (Lizard); Graham et al., Medical Image Analysis
92, 103047 (2024), doi:10.1016/j.media.2023.103047 (CoNIC); the README files of both archives; the split of the
challenge's baseline as in github.com/vqdang/hover_net, branch conic, generate_split.py. Code: own.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from mmgfnuc.datasets.arrays import LARGEST_ID, open_patches, whole_numbers
from mmgfnuc.datasets.canonical import BadFileError, LabelMap, TypeMap, read_image
from mmgfnuc.datasets.splits import Split
from mmgfnuc.errors import UserError

from .base import Content, Converter, Options, Sample, same_size
from .sources import files_by_stem, find_root

CLASSES = ('background', 'neutrophil', 'epithelial', 'lymphocyte', 'plasma', 'eosinophil', 'connective')
LICENCE = 'CC BY-NC-SA 4.0'
MPP = 0.5
MAGNIFICATION = 20.0
CONIC_PATCHES = 4981
PATCH_NAME = re.compile(r'(.+)-\d+')
LIZARD_IMAGES = ('Lizard_Images1', 'Lizard_Images2')
OVERLAPS = 'The authors give one label map, in which each pixel has one nucleus.'


def list_patches(source: Path, options: Options) -> list[Sample]:
    """List the patches of CoNIC by the names in patch_info.csv; the group of a patch is its source image."""
    root = find_root(source, 'images.npy')
    if root is None:
        raise UserError(f'{source} holds no "images.npy"; give the folder with images.npy, labels.npy, patch_info.csv')
    images, labels, info = (root / name for name in ('images.npy', 'labels.npy', 'patch_info.csv'))
    sizes = [open_patches(path, channels).shape[:3] for path, channels in ((images, 3), (labels, 2))]
    names = [row['patch_info'] for row in read_table(info, 'patch_info')]
    if sizes[0] != sizes[1]:
        raise BadFileError(labels, f'(N, H, W) {sizes[1]} differ from {sizes[0]} of images.npy', 'download both again')
    if len(names) != sizes[0][0]:
        raise BadFileError(info, f'{len(names)} rows for {sizes[0][0]} patches', 'download it again')
    samples = []
    for index, name in enumerate(names):
        parts = PATCH_NAME.fullmatch(name)
        if parts is None:
            raise BadFileError(info, f'row {index + 2}: {name!r} is not <image>-<number>', 'download it again')
        samples.append(Sample(name, parts[1], partial(read_patch, images, labels, index), MPP, MAGNIFICATION))
    return sorted(samples, key=lambda sample: sample.id)


def read_patch(images: Path, labels: Path, index: int) -> Content:
    """Read one patch of CoNIC: image, instance map and class map."""
    place = f'patch {index}'
    image = whole_numbers(open_patches(images, 3)[index], 255, images, place)
    maps = whole_numbers(open_patches(labels, 2)[index], LARGEST_ID, labels, place)
    instances, types = maps[..., 0], maps[..., 1]
    if types.max(initial=0) >= len(CLASSES):
        raise BadFileError(labels, f'{place} has class {types.max()} of {len(CLASSES) - 1}', 'get the original file')
    if np.any((instances > 0) != (types > 0)):
        what = f'{place} has pixels with a nucleus but no class, or a class but no nucleus'
        raise BadFileError(labels, what, 'get the original file')
    return Content(image.astype(np.uint8), instances, types=types.astype(np.uint8))


def baseline_split(samples: Sequence[Sample]) -> dict[str, Split]:
    """The first of the authors' ten draws: a fifth of the source images, alike over the cohorts, is `val`."""
    if len(samples) != CONIC_PATCHES:
        return {}
    from sklearn.model_selection import StratifiedShuffleSplit

    sources = sorted({sample.group for sample in samples})
    cohorts = [source.split('_')[0] for source in sources]
    draws = StratifiedShuffleSplit(n_splits=10, train_size=0.8, test_size=0.2, random_state=5)
    _, held_out = next(draws.split(sources, cohorts))
    val = {sources[index] for index in held_out}
    split: Split = {'train': [], 'val': []}
    for sample in samples:
        split['val' if sample.group in val else 'train'].append(sample.id)
    return {'baseline': split}


def list_lizard(source: Path, options: Options) -> list[Sample]:
    """Pair the images and labels of Lizard; slides are not published, so each image is a group of its own."""
    root = find_root(source, 'Labels/*.mat')
    if root is None:
        raise UserError(f'{source} holds no "Labels/*.mat"; give the folder with the three archives unpacked into it')
    labels = files_by_stem(root / 'Labels', '.mat')
    images: dict[str, Path] = {}
    for name in LIZARD_IMAGES:
        parent = find_root(source, f'{name}/*.png')
        if parent is None:
            raise UserError(f'{source} holds no "{name}/*.png"; unpack {name.lower()}.zip there too')
        images |= files_by_stem(parent / name, '.png')
    info = root / 'info.csv'
    folds = {row['Filename']: row['Split'] for row in read_table(info, 'Filename', 'Split')}
    problems = [f'{images[stem]}: no label; add {root / "Labels" / stem}.mat' for stem in images.keys() - labels.keys()]
    problems += [f'{labels[stem]}: no image of that name; add {stem}.png' for stem in labels.keys() - images.keys()]
    problems += [f'{info}: no row for {stem}; get the original file' for stem in images.keys() - folds.keys()]
    if problems:
        raise UserError('\n'.join([f'{len(problems)} bad source files, nothing was written:', *sorted(problems)]))
    return [
        Sample(stem, stem, partial(read_lizard, images[stem], labels[stem]), MPP, MAGNIFICATION, folds[stem])
        for stem in sorted(images)
    ]


def read_lizard(image: Path, label: Path) -> Content:
    """Read one image of Lizard."""
    content = read_mat(label)
    instances = whole_numbers(content['inst_map'], LARGEST_ID, label, 'inst_map')
    if instances.ndim != 2:
        raise BadFileError(label, f'inst_map {instances.shape} is not (H, W)', 'get the original file')
    ids = whole_numbers(content['id'], LARGEST_ID, label, 'id').ravel()
    classes = whole_numbers(content['class'], len(CLASSES) - 1, label, 'class').ravel()
    if len(ids) != len(classes):
        raise BadFileError(label, f'{len(ids)} ids for {len(classes)} classes', 'get the original file')
    known = dict(zip(ids.tolist(), classes.tolist(), strict=True))
    read = Content(read_image(image), instances, types=type_map(instances, known, label))
    same_size(image, read, {'instances': label})
    return read


def type_map(instances: LabelMap, known: Mapping[int, int], path: Path) -> TypeMap:
    """Class of each pixel, from the class of each nucleus.

    Shape:
        - instances, returns: (H, W)

    Raises:
        BadFileError: a nucleus has no class.
    """
    present, inverse = np.unique(instances, return_inverse=True)
    classes = [known.get(nucleus, 0) if nucleus else 0 for nucleus in present.tolist()]
    for nucleus, kind in zip(present.tolist(), classes, strict=True):
        if nucleus and not kind:
            raise BadFileError(path, f'nucleus {nucleus} has no class', 'get the original file')
    return np.array(classes, np.uint8)[inverse.reshape(instances.shape)]


def read_mat(path: Path) -> dict[str, NDArray]:
    """Read `inst_map`, `id` and `class`.

    Raises:
        BadFileError: the file is damaged or no .mat, or lacks one of them.
    """
    wanted = ('inst_map', 'id', 'class')
    try:
        content = loadmat(path, variable_names=wanted)
    # A damaged file fails anywhere in its tags: zlib, struct, type and value errors alike.
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise BadFileError(path, f'unreadable ({reason})', 'download it again') from error
    missing = [name for name in wanted if name not in content or content[name].dtype.kind not in 'uif']
    if missing:
        raise BadFileError(path, f'no numbers called {", ".join(missing)}', 'get the original file')
    return content


def lizard_folds(samples: Sequence[Sample]) -> dict[str, Split]:
    """For each fold that the authors number in info.csv: it is `val`, the others are `train`."""
    folds = sorted({str(sample.part) for sample in samples})
    if len(folds) < 2:
        return {}
    return {
        f'official-{fold}': {
            'train': [sample.id for sample in samples if sample.part != fold],
            'val': [sample.id for sample in samples if sample.part == fold],
        }
        for fold in folds
    }


def read_table(path: Path, *columns: str) -> list[dict[str, str]]:
    """Rows of a .csv file with a head.

    Raises:
        BadFileError: the file is missing or no text, or lacks a column.
    """
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file, restval='')
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            rows = list(reader)
    except FileNotFoundError:
        raise BadFileError(path, 'missing', 'put the file there') from None
    except (OSError, ValueError, csv.Error) as error:
        raise BadFileError(path, f'unreadable ({" ".join(str(error).split())})', 'download it again') from error
    if missing:
        raise BadFileError(path, f'no column {", ".join(missing)}', 'download it again')
    return rows


CONVERTERS = (
    Converter(
        name='conic',
        title='CoNIC',
        layout="""\
  SOURCE/images.npy       (4981, 256, 256, 3), uint8
  SOURCE/labels.npy       (4981, 256, 256, 2), uint16: instance map, class map
  SOURCE/patch_info.csv   column patch_info: <source image>-<number> of each patch""",
        licence=LICENCE,
        citation='Graham et al.: CoNIC Challenge: Pushing the frontiers of nuclear detection, segmentation, '
        'classification and counting. Medical Image Analysis 92, 103047 (2024), doi:10.1016/j.media.2023.103047; '
        'and that of Lizard, arXiv:2108.11195',
        page='https://conic-challenge.grand-challenge.org/',
        list_samples=list_patches,
        classes=CLASSES,
        images=CONIC_PATCHES,
        splits=baseline_split,
        overlaps=OVERLAPS,
    ),
    Converter(
        name='lizard',
        title='Lizard',
        layout="""\
  SOURCE/lizard_images1/Lizard_Images1/consep_1.png         and lizard_images2/Lizard_Images2/
  SOURCE/lizard_labels/Lizard_Labels/Labels/consep_1.mat    inst_map, id, class
  SOURCE/lizard_labels/Lizard_Labels/info.csv               columns Filename, Split
The outer folders may be left out.""",
        licence=LICENCE,
        citation='Graham et al.: Lizard: A Large-Scale Dataset for Colonic Nuclear Instance Segmentation and '
        'Classification. ICCV Workshops 2021, 684-693, arXiv:2108.11195',
        page='https://warwick.ac.uk/fac/cross_fac/tia/data/lizard',
        list_samples=list_lizard,
        classes=CLASSES,
        images=238,
        nuclei=431913,
        splits=lizard_folds,
        overlaps=OVERLAPS,
    ),
)
