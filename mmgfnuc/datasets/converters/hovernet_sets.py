"""CoNSeP and CPM-17, in the layout that HoVer-Net gave them: images beside MATLAB files.

Source: Graham et al., Medical Image Analysis 58, 101563 (2019), doi:10.1016/j.media.2019.101563; the README in the
archive of CoNSeP; Vu et al., Frontiers in Bioengineering and Biotechnology 7, 53 (2019), doi:10.3389/fbioe.2019.00053.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from mmgfnuc.datasets.arrays import LARGEST_ID, whole_numbers
from mmgfnuc.datasets.canonical import BadFileError, LabelMap, read_image
from mmgfnuc.datasets.splits import Split
from mmgfnuc.errors import UserError

from .base import Content, Converter, Options, Sample, faulty, parts_split, same_size
from .sources import files_by_stem, find_root

IMAGES = 'Images'
LABELS = 'Labels'
CONSEP_IMAGES = {'train': 27, 'test': 14}
CONSEP_CLASSES = (
    'background',
    'other',
    'inflammatory',
    'healthy epithelial',
    'dysplastic or malignant epithelial',
    'fibroblast',
    'muscle',
    'endothelial',
)
OVERLAPS = 'The authors ship label maps: each pixel belongs to one nucleus.'


def list_samples(
    source: Path,
    options: Options,
    folders: Mapping[str, str],
    read: Callable[[Path, Path], Content],
    magnification: float | None,
) -> list[Sample]:
    """Pair images and labels of the parts of the authors' split.

    Slide and patient of an image are not published, so each part is one group: nothing else is sure to separate them.

    Args:
        source: of the user.
        options: none.
        folders: of each part.
        read: reads image and labels.
        magnification: of the objective.
    """
    samples = []
    for part, name in folders.items():
        root = find_root(source, f'{name}/{IMAGES}')
        if root is not None:
            samples += _paired(root / name, part, read, magnification)
    if not samples:
        names = ' and '.join(f'"{name}/{IMAGES}"' for name in folders.values())
        raise UserError(f'{source} holds no images in {names}; give the folder that holds "{folders["train"]}"')
    return samples


def read_untyped(image: Path, label: Path) -> Content:
    """Read an image and the ids of its nuclei."""
    content = Content(read_image(image), read_instances(label, load(label, 'inst_map')))
    same_size(image, content, {'instances': label})
    return content


def read_typed(image: Path, label: Path) -> Content:
    """Read an image, the ids of its nuclei and the type of each nucleus."""
    values = load(label, 'inst_map', 'inst_type')
    instances = read_instances(label, values)
    of_each = whole_numbers(np.ravel(values['inst_type']), len(CONSEP_CLASSES) - 1, label, 'inst_type')
    nuclei = np.unique(instances[instances > 0])
    if len(nuclei) != len(of_each):
        what = f'{len(of_each)} types in inst_type, {len(nuclei)} nuclei in inst_map'
        raise BadFileError(label, what, 'get the original file')
    if not of_each.all():
        raise BadFileError(label, 'inst_type holds 0, no type', 'get the original file')
    types = np.zeros(instances.shape, np.uint8)
    # The types stand in the order of the ids.
    types[instances > 0] = of_each[np.searchsorted(nuclei, instances[instances > 0])]
    content = Content(read_image(image), instances, types=types)
    same_size(image, content, {'instances': label})
    return content


def load(path: Path, *names: str) -> dict[str, Any]:
    """Read variables of a MATLAB file up to version 7.2; nothing is unpickled.

    Raises:
        BadFileError: The file is damaged, of version 7.3, or lacks a variable, or one does not hold numbers.
    """
    try:
        content = loadmat(path, variable_names=names)
    except NotImplementedError as error:
        raise BadFileError(
            path, 'MATLAB file of version 7.3 (HDF5)', 'save it with -v7, or get the original'
        ) from error
    # A damaged file fails anywhere: zlib, struct, index and type errors alike.
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise BadFileError(path, f'unreadable MATLAB file ({reason})', 'get the original file') from error
    for name in names:
        if name not in content:
            raise BadFileError(path, f'holds no {name}', 'get the original file')
        if content[name].dtype.kind not in 'buif':
            raise BadFileError(path, f'{name} holds {content[name].dtype}, no numbers', 'get the original file')
    return content


def read_instances(path: Path, values: Mapping[str, Any]) -> LabelMap:
    """Turn `inst_map`, which may be floating, into ids.

    Raises:
        BadFileError: It holds fractions or negatives, or is not (H, W).
    """
    instances = whole_numbers(values['inst_map'], LARGEST_ID, path, 'inst_map')
    if instances.ndim != 2:
        raise BadFileError(path, f'inst_map has shape {instances.shape}, not (H, W)', 'get the original file')
    return instances


def _paired(
    folder: Path, part: str, read: Callable[[Path, Path], Content], magnification: float | None
) -> list[Sample]:
    images, labels = files_by_stem(folder / IMAGES, '.png'), files_by_stem(folder / LABELS, '.mat')
    samples = []
    for stem in sorted(images.keys() | labels.keys()):
        # The parts of CPM-17 use the same names.
        name = stem if stem.startswith(f'{part}_') else f'{part}_{stem}'
        if stem not in labels:
            samples.append(faulty(name, part, f'{images[stem]}: no labels; add {folder / LABELS / stem}.mat'))
        elif stem not in images:
            samples.append(faulty(name, part, f'{labels[stem]}: no image; add {folder / IMAGES / stem}.png'))
        else:
            content = partial(read, images[stem], labels[stem])
            samples.append(Sample(name, part, content, magnification=magnification, part=part))
    return samples


def _consep_splits(samples: Sequence[Sample]) -> dict[str, Split]:
    split = parts_split(samples)
    complete = {part: len(ids) for part, ids in split.items()} == CONSEP_IMAGES
    return {'official': split} if complete else {}


def _cpm17_splits(samples: Sequence[Sample]) -> dict[str, Split]:
    split = parts_split(samples)
    return {'official': split} if len(split) == 2 else {}


CONVERTERS = (
    Converter(
        name='consep',
        title='CoNSeP',
        layout="""\
  SOURCE/Train/Images/train_1.png   1000x1000
  SOURCE/Train/Labels/train_1.mat   inst_map, inst_type (up to MATLAB 7.2)
  SOURCE/Test/Images/test_1.png, SOURCE/Test/Labels/test_1.mat""",
        licence=None,
        citation='Graham et al.: HoVer-Net: Simultaneous segmentation and classification of nuclei in multi-tissue '
        'histology images. Medical Image Analysis 58, 101563 (2019), doi:10.1016/j.media.2019.101563',
        page='https://warwick.ac.uk/fac/cross_fac/tia/data/hovernet/',
        list_samples=partial(
            list_samples, folders={'train': 'Train', 'test': 'Test'}, read=read_typed, magnification=40.0
        ),
        classes=CONSEP_CLASSES,
        images=sum(CONSEP_IMAGES.values()),
        nuclei=24319,
        splits=_consep_splits,
        overlaps=OVERLAPS,
    ),
    Converter(
        name='cpm17',
        title='CPM-17',
        layout="""\
  SOURCE/train/Images/image_00.png   sizes differ
  SOURCE/train/Labels/image_00.mat   inst_map (up to MATLAB 7.2)
  SOURCE/test/Images/image_00.png, SOURCE/test/Labels/image_00.mat""",
        licence=None,
        citation='Vu et al.: Methods for segmentation and classification of digital microscopy tissue images. '
        'Frontiers in Bioengineering and Biotechnology 7, 53 (2019), doi:10.3389/fbioe.2019.00053',
        page='https://github.com/vqdang/hover_net#datasets',
        list_samples=partial(
            list_samples, folders={'train': 'train', 'test': 'test'}, read=read_untyped, magnification=None
        ),
        splits=_cpm17_splits,
        overlaps=OVERLAPS,
    ),
)
