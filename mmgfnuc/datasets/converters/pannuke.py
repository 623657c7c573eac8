"""PanNuke.

Sources: Gamper et al., ECDP 2019, 11-19, and arXiv:2003.10778; the README of the archives; overlaps as in
github.com/TissueImageAnalytics/PanNuke-metrics, utils.py.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.arrays import LARGEST_ID, open_patches, whole_numbers
from mmgfnuc.datasets.canonical import BadFileError, LabelMap, TypeMap
from mmgfnuc.datasets.splits import Split
from mmgfnuc.errors import UserError

from .base import Content, Converter, Options, Sample
from .sources import find_root

CLASSES = ('background', 'neoplastic', 'inflammatory', 'connective', 'dead', 'epithelial')
# The last channel of masks.npy, the background, follows from the others and is not read.
CHANNELS = len(CLASSES)
FOLDS = ('fold1', 'fold2', 'fold3')
# Folds to train, validate and test on.
PROTOCOL = ((1, 2, 3), (2, 1, 3), (3, 2, 1))
MPP = 0.25
MAGNIFICATION = 40.0


def list_samples(source: Path, options: Options) -> list[Sample]:
    """List the patches of the folds in the source; slides are not published, so the group of a patch is its fold."""
    samples = []
    for fold in FOLDS:
        root = find_root(source, f'images/{fold}/images.npy')
        if root is not None:
            samples += list_fold(fold, *(root / kind / fold / f'{kind}.npy' for kind in ('images', 'masks')))
    if not samples:
        raise UserError(f'{source} holds no "images/fold1/images.npy"; give the folder with "Fold 1" to "Fold 3"')
    return samples


def list_fold(fold: str, images: Path, masks: Path) -> list[Sample]:
    """List the patches of one fold."""
    sizes = [open_patches(path, channels).shape[:3] for path, channels in ((images, 3), (masks, CHANNELS))]
    if sizes[0] != sizes[1]:
        raise BadFileError(masks, f'(N, H, W) {sizes[1]} differ from {sizes[0]} of images.npy', 'download both again')
    return [
        Sample(f'{fold}_{index:04d}', fold, partial(read_patch, images, masks, index), MPP, MAGNIFICATION)
        for index in range(sizes[0][0])
    ]


def read_patch(images: Path, masks: Path, index: int) -> Content:
    """Read one patch."""
    place = f'patch {index}'
    image = whole_numbers(open_patches(images, 3)[index], 255, images, place).astype(np.uint8)
    channels = whole_numbers(open_patches(masks, CHANNELS)[index, ..., : len(CLASSES) - 1], LARGEST_ID, masks, place)
    instances, types = merge_channels(channels)
    return Content(image, instances, types=types)


def merge_channels(channels: NDArray[np.int32]) -> tuple[LabelMap, TypeMap]:
    """Instance map and type map of one instance map for each type.

    Nuclei are numbered anew, as one number may stand for two nuclei in two channels. Where channels overlap the later
    one is kept, as the authors' metric does.

    Shape:
        - channels: (H, W, types)
        - returns: (H, W), (H, W)
    """
    instances = np.zeros(channels.shape[:2], np.int32)
    types = np.zeros(channels.shape[:2], np.uint8)
    before = 0
    for index in range(channels.shape[2]):
        nuclei = channels[..., index] > 0
        ids, inverse = np.unique(channels[nuclei, index], return_inverse=True)
        instances[nuclei] = before + 1 + inverse
        types[nuclei] = index + 1
        before += len(ids)
    return instances, types


def official_splits(samples: Sequence[Sample]) -> dict[str, Split]:
    """The three splits of the authors' protocol, if all folds are there."""
    folds = {fold: [sample.id for sample in samples if sample.group == fold] for fold in FOLDS}
    if not all(folds.values()):
        return {}
    return {
        f'official-train{train}-val{val}-test{test}': {
            'train': folds[f'fold{train}'],
            'val': folds[f'fold{val}'],
            'test': folds[f'fold{test}'],
        }
        for train, val, test in PROTOCOL
    }


CONVERTERS = (
    Converter(
        name='pannuke',
        title='PanNuke',
        layout="""\
  SOURCE/Fold 1/images/fold1/images.npy   (2656, 256, 256, 3), whole numbers
  SOURCE/Fold 1/masks/fold1/masks.npy     (2656, 256, 256, 6): instance map of each of five types; background
and so for folds 2 and 3. Folds may be left out; the official splits need all three. types.npy is not read.""",
        licence='CC BY-NC-SA 4.0',
        citation='Gamper et al.: PanNuke: An Open Pan-Cancer Histology Dataset for Nuclei Instance Segmentation and '
        'Classification. ECDP 2019, 11-19; Gamper et al.: PanNuke Dataset Extension, Insights and Baselines. '
        'arXiv:2003.10778 (2020)',
        page='https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke',
        list_samples=list_samples,
        classes=CLASSES,
        images=7901,
        nuclei=189744,
        splits=official_splits,
        overlaps="The type that comes later in masks.npy is kept (4,318 pixels), as the authors' metric does.",
    ),
)
