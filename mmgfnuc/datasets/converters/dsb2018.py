"""The training images of the 2018 Data Science Bowl.

Source: Caicedo et al., Nature Methods 16, 1247-1253 (2019), doi:10.1038/s41592-019-0612-7.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgfnuc.datasets.canonical import read_ignore, read_image
from mmgfnuc.errors import UserError

from .base import Content, Converter, Options, Sample, faulty
from .sources import files_by_stem, find_root


def list_samples(source: Path, options: Options) -> list[Sample]:
    """Pair the image in each folder with its masks."""
    root = find_root(source, '*/images/*.png', '*/masks')
    if root is None:
        raise UserError(f'{source} holds no "<id>/images/<id>.png" with "<id>/masks"; give the folder stage1_train')
    samples = []
    for folder in sorted(path for path in root.iterdir() if (path / 'images').is_dir()):
        image = folder / 'images' / f'{folder.name}.png'
        masks = list(files_by_stem(folder / 'masks', '.png').values())
        # The authors publish neither slide nor patient, so each image is a group of its own.
        if masks:
            samples.append(Sample(folder.name, folder.name, partial(read_sample, image, masks)))
        else:
            problem = (
                f'{folder / "masks"}: no mask; unpack stage1_train.zip again (images of the test stages have none)'
            )
            samples.append(faulty(folder.name, folder.name, problem))
    return samples


def read_sample(image: Path, masks: Sequence[Path]) -> Content:
    """Read an image and its masks: mask k has id k + 1; the smaller of two keeps the pixels that they share."""
    picture = read_image(image)
    shape = picture.shape[:2]
    # Places instead of whole masks: an image has up to some hundred.
    nuclei = [_pixels(path, shape, image.name) for path in masks]
    instances = np.zeros(shape, np.int32)
    for index in sorted(range(len(nuclei)), key=lambda k: -len(nuclei[k])):
        instances.flat[nuclei[index]] = index + 1
    return Content(picture, instances)


def _pixels(path: Path, shape: tuple[int, int], image: str) -> NDArray[np.intp]:
    mask = read_ignore(path)
    if mask.shape != shape:
        raise UserError(f'{path}: size {mask.shape} differs from {shape} of {image}; unpack stage1_train.zip again')
    return np.flatnonzero(mask)


CONVERTERS = (
    Converter(
        name='dsb2018',
        title='DSB2018',
        layout="""\
  SOURCE/stage1_train/<id>/images/<id>.png   fluorescence and stained tissue, mixed
  SOURCE/stage1_train/<id>/masks/*.png       one binary mask for each nucleus
SOURCE may also be stage1_train itself. The test stages have no masks and are not read.""",
        licence='CC0 1.0',
        citation='Caicedo et al.: Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl. '
        'Nature Methods 16, 1247-1253 (2019), doi:10.1038/s41592-019-0612-7; image set BBBC038v1 of the Broad '
        'Bioimage Benchmark Collection',
        page='https://bbbc.broadinstitute.org/BBBC038',
        list_samples=list_samples,
        images=670,
        overlaps='The smaller nucleus keeps the pixels that two masks share.',
    ),
)
