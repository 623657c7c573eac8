"""NuInsSeg.

Source: Mahbod et al., Scientific Data 11, 295 (2024), doi:10.1038/s41597-024-03117-2.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmgfnuc.datasets.canonical import read_ignore, read_image, read_label_map
from mmgfnuc.datasets.splits import NUINSSEG_IMAGES, Split, official_nuinsseg_folds
from mmgfnuc.errors import UserError

from .base import Content, Converter, Options, Sample, faulty, same_size
from .sources import files_by_stem, find_root

IMAGES = 'tissue images'
LABELS = 'label masks modify'
VAGUE = ('vague areas/mask binary', 'vague areas/mask binary_vague', 'mask binary_vague')
OFFICIAL = tuple(f'official-{fold}' for fold in range(5))
MAGNIFICATION = 40.0


def list_samples(source: Path, options: Options) -> list[Sample]:
    """Pair the files of all organs."""
    root = find_root(source, f'*/{IMAGES}')
    if root is None:
        raise UserError(f'{source} holds no "<organ>/{IMAGES}"; give the folder that holds "human bladder" etc.')
    samples = []
    for organ in sorted(path for path in root.iterdir() if (path / IMAGES).is_dir() or (path / LABELS).is_dir()):
        images = files_by_stem(organ / IMAGES, '.png')
        labels = files_by_stem(organ / LABELS, '.tif', '.tiff')
        vague = {stem: path for folder in VAGUE for stem, path in files_by_stem(organ / folder, '.png').items()}
        for stem, image in images.items():
            if stem in labels:
                read = partial(read_sample, image, labels[stem], vague.get(stem))
                # The pixel size is left unknown: the images carry none and no statement of the authors is known to us.
                samples.append(Sample(stem, organ.name, read, magnification=MAGNIFICATION))
            else:
                problem = f'{image}: no label map; add {organ / LABELS / stem}.tif'
                samples.append(faulty(stem, organ.name, problem))
        for stem, mask in (labels | vague).items():
            if stem not in images:
                problem = f'{mask}: no image of that name in "{IMAGES}"; add the image or remove the mask'
                samples.append(faulty(stem, organ.name, problem))
    return samples


def read_sample(image: Path, label: Path, vague: Path | None) -> Content:
    """Read the files of one image."""
    content = Content(read_image(image), read_label_map(label), read_ignore(vague) if vague else None)
    same_size(image, content, {'instances': label, 'ignore': vague})
    return content


def _official(samples: Sequence[Sample]) -> dict[str, Split]:
    if len(samples) != NUINSSEG_IMAGES:
        return {}
    return dict(zip(OFFICIAL, official_nuinsseg_folds({sample.id: sample.group for sample in samples}), strict=True))


CONVERTERS = (
    Converter(
        name='nuinsseg',
        title='NuInsSeg',
        layout="""\
  SOURCE/human bladder/tissue images/human_bladder_01.png             512x512, one of them RGBA
  SOURCE/human bladder/label masks modify/human_bladder_01.tif        instance ids
  SOURCE/human bladder/vague areas/mask binary/human_bladder_01.png   (optional: becomes ignore/)""",
        licence='CC BY 4.0',
        citation='Mahbod et al.: NuInsSeg: A fully annotated dataset for nuclei instance segmentation in H&E-stained '
        'histological images. Scientific Data 11, 295 (2024), doi:10.1038/s41597-024-03117-2',
        page='https://www.kaggle.com/datasets/ipateam/nuinsseg',
        list_samples=list_samples,
        images=NUINSSEG_IMAGES,
        nuclei=30698,
        splits=_official,
        leaky=OFFICIAL,
        holdout=('organs', ('human rectum', 'human kidney', 'mouse heart')),
        overlaps='Given to one of the two nuclei by the authors ("label masks modify").',
    ),
)
