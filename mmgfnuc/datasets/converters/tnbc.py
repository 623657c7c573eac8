"""TNBC: triple-negative breast cancer.

Source: Naylor et al., IEEE TMI 38, 448-459 (2019), doi:10.1109/TMI.2018.2865709; the archives on Zenodo.
"""

from functools import partial
from pathlib import Path

import numpy as np
from skimage.measure import label as connected_components

from mmgfnuc.datasets.canonical import BadFileError, read_image
from mmgfnuc.errors import UserError

from .base import Content, Converter, Options, Sample, faulty, same_size
from .sources import files_by_stem, find_root

SLIDES = 'Slide_*'
# The later archive, "TNBC and brain", adds slides 12 to 14 of the brain.
BREAST_SLIDES = tuple(f'{number:02d}' for number in range(1, 12))
MAGNIFICATION = 40.0


def list_samples(source: Path, options: Options) -> list[Sample]:
    """Pair the images and masks of each slide."""
    root = find_root(source, f'{SLIDES}/*.png')
    if root is None:
        raise UserError(f'{source} holds no "{SLIDES}/*.png"; give the folder that holds Slide_01 and GT_01')
    samples = []
    for number in BREAST_SLIDES:
        folders = root / f'Slide_{number}', root / f'GT_{number}'
        images, masks = (files_by_stem(folder, '.png') for folder in folders)
        for stem in sorted(images.keys() | masks.keys()):
            group = folders[0].name
            if stem not in masks:
                samples.append(faulty(stem, group, f'{images[stem]}: no mask; add {folders[1] / stem}.png'))
            elif stem not in images:
                samples.append(faulty(stem, group, f'{masks[stem]}: no image; add {folders[0] / stem}.png'))
            else:
                read = partial(read_sample, images[stem], masks[stem])
                samples.append(Sample(stem, group, read, magnification=MAGNIFICATION))
    return samples


def read_sample(image: Path, mask: Path) -> Content:
    """Read an image and its mask, and number the connected parts of the mask, corners included.

    Raises:
        BadFileError: The mask has more than two grey values: it is not one of the authors' binary masks.
    """
    # Alpha, if there is any, is dropped.
    grey = read_image(mask).max(axis=2)
    values = np.unique(grey)
    if len(values) > 2 or values[0] > 0:
        what = f'{len(values)} grey values from {values[0]} to {values[-1]}, not a mask of 0 and one other'
        raise BadFileError(mask, what, 'get the archive of binary masks')
    content = Content(read_image(image), connected_components(grey > 0).astype(np.int32))
    same_size(image, content, {'instances': mask})
    return content


CONVERTERS = (
    Converter(
        name='tnbc',
        title='TNBC',
        layout="""\
  SOURCE/Slide_01/01_1.png   512x512
  SOURCE/GT_01/01_1.png      binary mask: NUCLEI THAT TOUCH BECOME ONE
Slides 01 to 11 are read; 12 to 14 of the archive "TNBC and brain" show the brain and are left out.""",
        licence='CC BY 4.0',
        citation='Naylor et al.: Segmentation of nuclei in histopathology images by deep regression of the distance '
        'map. IEEE Transactions on Medical Imaging 38, 448-459 (2019), doi:10.1109/TMI.2018.2865709',
        page='https://zenodo.org/records/2579118',
        list_samples=list_samples,
        images=50,
        nuclei=4022,
        overlaps='The masks are binary. Connected parts, corners included, become the nuclei: NUCLEI THAT TOUCH BECOME '
        'ONE, so counts and instance scores are not exact.',
    ),
)
