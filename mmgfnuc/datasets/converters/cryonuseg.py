"""CryoNuSeg.

Source: Mahbod et al., Computers in Biology and Medicine 132, 104349 (2021), doi:10.1016/j.compbiomed.2021.104349; the
folders as in the authors' archive on Kaggle.
"""

import re
from functools import partial
from pathlib import Path

from mmgfnuc.datasets.canonical import read_image, read_label_map
from mmgfnuc.errors import UserError

from .base import Content, Converter, Option, Options, Sample, same_size
from .sources import files_by_stem, find_root

IMAGES = 'tissue images'
LABELS = 'label masks modify'
ANNOTATIONS = {
    'annotator-1': 'Annotator 1 (biologist)',
    'annotator-1-round-2': 'Annotator 1 (biologist second round of manual marks up)',
    'annotator-2': 'Annotator 2 (bioinformatician)',
}
NAME = re.compile(r'Human_(\w+)_\d+')
MAGNIFICATION = 40.0


def list_samples(source: Path, options: Options) -> list[Sample]:
    """Pair the images with the label maps of one annotation."""
    root = find_root(source, f'{IMAGES}/*.tif')
    if root is None:
        raise UserError(f'{source} holds no "{IMAGES}/*.tif"; give the folder that holds "{IMAGES}"')
    folder = find_labels(root, options['annotation'])
    images, labels = (files_by_stem(path, '.tif', '.tiff') for path in (root / IMAGES, folder))
    samples, problems = [], []
    for stem, image in images.items():
        name = NAME.fullmatch(stem)
        if name is None:
            problems.append(f'{image}: name is not Human_<organ>_<number>; give it the name its authors gave it')
        elif stem not in labels:
            problems.append(f'{image}: no label map; add {folder / stem}.tif')
        else:
            # The pixel size is left unknown: the authors state the magnification alone.
            read = partial(read_sample, image, labels[stem])
            samples.append(Sample(stem, name[1], read, magnification=MAGNIFICATION))
    problems += [
        f'{path}: no image of that name in "{IMAGES}"; add the image or remove the label map'
        for stem, path in labels.items()
        if stem not in images
    ]
    if problems:
        raise UserError('\n'.join([f'{len(problems)} bad source files, nothing was written:', *problems]))
    return samples


def find_labels(root: Path, annotation: str) -> Path:
    """Folder of the label maps; the archive has some folders inside a second one of the same name.

    Raises:
        UserError: it is missing.
    """
    folder = root / ANNOTATIONS[annotation]
    inner = find_root(folder, LABELS) if folder.is_dir() else None
    if inner is None:
        raise UserError(f'{folder} holds no "{LABELS}"; unpack the whole archive, or choose another --annotation')
    return inner / LABELS


def read_sample(image: Path, label: Path) -> Content:
    """Read the files of one image."""
    content = Content(read_image(image), read_label_map(label))
    same_size(image, content, {'instances': label})
    return content


CONVERTERS = (
    Converter(
        name='cryonuseg',
        title='CryoNuSeg',
        layout="""\
  SOURCE/tissue images/Human_Larynx_01.tif                                        512x512
  SOURCE/Annotator 1 (biologist)/label masks modify/Human_Larynx_01.tif           instance ids
  SOURCE/Annotator 1 (biologist second round of manual marks up)/.../label masks modify/Human_Larynx_01.tif
  SOURCE/Annotator 2 (bioinformatician)/.../label masks modify/Human_Larynx_01.tif
"..." is a second folder of the same name, as in the archive; it may also be left out.""",
        licence=None,
        citation='Mahbod et al.: CryoNuSeg: A dataset for nuclei instance segmentation of cryosectioned H&E-stained '
        'histological images. Computers in Biology and Medicine 132, 104349 (2021), '
        'doi:10.1016/j.compbiomed.2021.104349',
        page='https://www.kaggle.com/datasets/ipateam/segmentation-of-nuclei-in-cryosectioned-he-images',
        list_samples=list_samples,
        images=30,
        holdout=('organs', ('Larynx', 'Pancreas', 'Thymus')),
        overlaps='Given to one of the two nuclei by the authors ("label masks modify").',
        options=(Option('annotation', tuple(ANNOTATIONS), 'annotator-1', 'whose outlines, and of which round'),),
    ),
)
