"""MoNuSeg, the set of Kumar et al. that it grew from, and MoNuSAC: nuclei drawn in Aperio ImageScope.

Source: Kumar et al., IEEE TMI 36, 1550-1560 (2017), doi:10.1109/TMI.2017.2677499; Kumar et al., IEEE TMI 39, 1380-1391
(2020), doi:10.1109/TMI.2019.2947628; Verma et al., IEEE TMI 40, 3413-3423 (2021), doi:10.1109/TMI.2021.3085712.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from mmgfnuc.datasets.canonical import BadFileError, read_image
from mmgfnuc.datasets.splits import Split
from mmgfnuc.errors import UserError

from .base import Content, Converter, Options, Sample, faulty, parts_split
from .imagescope import read_mpp, read_regions
from .outlines import draw
from .sources import files_by_stem, find_root

IMAGES = 'Tissue Images'
ANNOTATIONS = 'Annotations'
# Patient of a TCGA barcode: TCGA-<site>-<patient>.
PATIENT = 12
MAGNIFICATION = 40.0
# Above this a scan at 40x is none: 0.25 micrometres per pixel are usual.
LARGEST_MPP_AT_40X = 0.3

KUMAR_TRAIN = (
    'TCGA-A7-A13E-01Z-00-DX1',
    'TCGA-A7-A13F-01Z-00-DX1',
    'TCGA-AR-A1AK-01Z-00-DX1',
    'TCGA-AR-A1AS-01Z-00-DX1',
    'TCGA-18-5592-01Z-00-DX1',
    'TCGA-38-6178-01Z-00-DX1',
    'TCGA-49-4488-01Z-00-DX1',
    'TCGA-50-5931-01Z-00-DX1',
    'TCGA-B0-5711-01Z-00-DX1',
    'TCGA-HE-7128-01Z-00-DX1',
    'TCGA-HE-7129-01Z-00-DX1',
    'TCGA-HE-7130-01Z-00-DX1',
    'TCGA-G9-6336-01Z-00-DX1',
    'TCGA-G9-6348-01Z-00-DX1',
    'TCGA-G9-6356-01Z-00-DX1',
    'TCGA-G9-6363-01Z-00-DX1',
)
KUMAR_SAME_ORGANS = (
    'TCGA-E2-A1B5-01Z-00-DX1',
    'TCGA-E2-A14V-01Z-00-DX1',
    'TCGA-21-5784-01Z-00-DX1',
    'TCGA-21-5786-01Z-00-DX1',
    'TCGA-B0-5698-01Z-00-DX1',
    'TCGA-B0-5710-01Z-00-DX1',
    'TCGA-CH-5767-01Z-00-DX1',
    'TCGA-G9-6362-01Z-00-DX1',
)
KUMAR_OTHER_ORGANS = (
    'TCGA-DK-A2I6-01A-01-TS1',
    'TCGA-G2-A2EK-01A-02-TSB',
    'TCGA-AY-A8YK-01A-01-TS1',
    'TCGA-NH-A8F7-01A-01-TS1',
    'TCGA-KB-A93J-01A-01-TS1',
    'TCGA-RD-A8N9-01A-01-TS1',
)
KUMAR = (*KUMAR_TRAIN, *KUMAR_SAME_ORGANS, *KUMAR_OTHER_ORGANS)
ADDED = (
    'TCGA-BC-A217-01Z-00-DX1',
    'TCGA-F9-A8NY-01Z-00-DX1',
    'TCGA-FG-A87N-01Z-00-DX1',
    'TCGA-MH-A561-01Z-00-DX1',
    'TCGA-UZ-A9PJ-01Z-00-DX1',
    'TCGA-UZ-A9PN-01Z-00-DX1',
    'TCGA-XS-A8TJ-01Z-00-DX1',
)
TEST = (
    'TCGA-2Z-A9J9-01A-01-TS1',
    'TCGA-44-2665-01B-06-BS6',
    'TCGA-69-7764-01A-01-TS1',
    'TCGA-A6-6782-01A-01-BS1',
    'TCGA-AC-A2FO-01A-01-TS1',
    'TCGA-AO-A0J2-01A-01-BSA',
    'TCGA-CU-A0YN-01A-02-BSB',
    'TCGA-EJ-A46H-01A-03-TSC',
    'TCGA-FG-A4MU-01B-01-TS1',
    'TCGA-GL-6846-01A-01-BS1',
    'TCGA-HC-7209-01A-01-TS1',
    'TCGA-HT-8564-01Z-00-DX1',
    'TCGA-IZ-8196-01A-01-BS1',
    'TCGA-ZF-A9R5-01A-01-TS1',
)

MONUSAC_FOLDERS = {'train': 'MoNuSAC_images_and_annotations', 'test': 'MoNuSAC Testing Data and Annotations'}
MONUSAC_IMAGES = {'train': 209, 'test': 85}
TYPES = ('Epithelial', 'Lymphocyte', 'Macrophage', 'Neutrophil')
# The last two are what ImageScope calls a layer that nobody named: nuclei without a type.
UNKNOWN = ('Ambiguous', 'Description', '1')
OVERLAPS = 'The nucleus that comes first in the XML keeps the shared pixels, as in the script of the MoNuSeg authors.'


def list_monuseg(source: Path, options: Options) -> list[Sample]:
    """Pair images and annotations of the training folder, the test folder or both."""
    training, test = find_root(source, IMAGES), find_root(source, '*.tif', '*.xml')
    if training is None and test is None:
        raise UserError(f'{source} holds neither "{IMAGES}" nor a folder of .tif with .xml; give the one that does')
    samples = _paired(training / IMAGES, training / ANNOTATIONS, read_monuseg) if training is not None else []
    return samples + (_paired(test, test, read_monuseg) if test is not None else [])


def list_kumar(source: Path, options: Options) -> list[Sample]:
    """Pair images and annotations, leaving out the images that only MoNuSeg has."""
    return [sample for sample in list_monuseg(source, options) if sample.id in KUMAR]


def read_monuseg(image: Path, annotation: Path) -> Content:
    """Read an image and the nuclei drawn on it."""
    picture = read_image(image)
    drawing = draw(annotation, read_regions(annotation), picture.shape[:2])
    return Content(picture, drawing.instances, notices=drawing.notices)


def list_monusac(source: Path, options: Options) -> list[Sample]:
    """Pair images and annotations of all patients; the .svs beside them are not read."""
    samples = []
    for part, name in MONUSAC_FOLDERS.items():
        root = find_root(source, name)
        for patient in sorted((root / name).iterdir()) if root is not None else ():
            if patient.is_dir() and not patient.name.startswith('.'):
                samples += _paired(patient, patient, read_monusac, part)
    if not samples:
        names = ' and '.join(f'"{name}"' for name in MONUSAC_FOLDERS.values())
        raise UserError(f'{source} holds none of {names} with patients; give the folder that holds them')
    return samples


def read_monusac(image: Path, annotation: Path) -> Content:
    """Read an image, the nuclei drawn on it and their types; what has no type is ignored where no other nucleus is."""
    picture = read_image(image)
    shape = picture.shape[:2]
    regions = []
    for region in read_regions(annotation):
        if region.kind not in (*TYPES, *UNKNOWN):
            what = f'layer {region.kind!r} is none of {", ".join((*TYPES, *UNKNOWN))}'
            raise BadFileError(annotation, what, 'get the original file')
        regions.append(replace(region, ignored=region.kind in UNKNOWN))
    regions.sort(key=lambda region: region.ignored)
    drawing = draw(annotation, regions, shape)
    types = np.array([0, *(0 if region.ignored else TYPES.index(region.kind) + 1 for region in regions)], np.uint8)
    ignore = drawing.unsure if drawing.unsure.any() else None
    return Content(picture, drawing.instances, ignore, types[drawing.instances], drawing.notices)


def _paired(
    images: Path, annotations: Path, read: Callable[[Path, Path], Content], part: str | None = None
) -> list[Sample]:
    pictures, outlines = files_by_stem(images, '.tif'), files_by_stem(annotations, '.xml')
    samples = []
    for stem in sorted(pictures.keys() | outlines.keys()):
        patient = stem[:PATIENT]
        if stem not in outlines:
            samples.append(faulty(stem, patient, f'{pictures[stem]}: no outlines; add {annotations / stem}.xml'))
        elif stem not in pictures:
            samples.append(faulty(stem, patient, f'{outlines[stem]}: no image; add {images / stem}.tif'))
        else:
            samples.append(_sample(pictures[stem], outlines[stem], read, part))
    return samples


def _sample(image: Path, outlines: Path, read: Callable[[Path, Path], Content], part: str | None) -> Sample:
    patient = image.stem[:PATIENT]
    try:
        mpp = read_mpp(outlines)
    except UserError as error:
        return faulty(image.stem, patient, str(error))
    # The authors state 40x for all images, the XML of three a pixel twice as wide.
    at_40x = mpp is None or mpp <= LARGEST_MPP_AT_40X
    return Sample(image.stem, patient, partial(read, image, outlines), mpp, MAGNIFICATION if at_40x else None, part)


def _monuseg_splits(samples: Sequence[Sample]) -> dict[str, Split]:
    there = {sample.id for sample in samples}
    return {
        name: {'train': sorted(train), 'test': sorted(TEST)}
        for name, train in (('30-train', KUMAR), ('37-train', (*KUMAR, *ADDED)))
        if there.issuperset((*train, *TEST))
    }


def _kumar_splits(samples: Sequence[Sample]) -> dict[str, Split]:
    if len(samples) != len(KUMAR):
        return {}
    tests = {
        'official': (*KUMAR_SAME_ORGANS, *KUMAR_OTHER_ORGANS),
        'official-same-organs': KUMAR_SAME_ORGANS,
        'official-other-organs': KUMAR_OTHER_ORGANS,
    }
    return {name: {'train': sorted(KUMAR_TRAIN), 'test': sorted(test)} for name, test in tests.items()}


def _monusac_splits(samples: Sequence[Sample]) -> dict[str, Split]:
    split = parts_split(samples)
    complete = {part: len(ids) for part, ids in split.items()} == MONUSAC_IMAGES
    return {'official': split} if complete else {}


CONVERTERS = (
    Converter(
        name='monuseg',
        title='MoNuSeg',
        layout="""\
  SOURCE/MoNuSeg 2018 Training Data/Tissue Images/TCGA-18-5592-01Z-00-DX1.tif   1000x1000
  SOURCE/MoNuSeg 2018 Training Data/Annotations/TCGA-18-5592-01Z-00-DX1.xml     outlines, Aperio ImageScope
  SOURCE/MoNuSegTestData/TCGA-2Z-A9J9-01A-01-TS1.tif, .xml                      side by side
Unpack both archives into SOURCE; one of them alone is read too, without the official splits.""",
        licence='CC BY-NC-SA 4.0',
        citation='Kumar et al.: A multi-organ nucleus segmentation challenge. IEEE Transactions on Medical Imaging 39, '
        '1380-1391 (2020), doi:10.1109/TMI.2019.2947628',
        page='https://monuseg.grand-challenge.org/Data/',
        list_samples=list_monuseg,
        images=len(KUMAR) + len(ADDED) + len(TEST),
        splits=_monuseg_splits,
        overlaps=OVERLAPS,
    ),
    Converter(
        name='kumar',
        title='Kumar',
        layout="""\
  SOURCE/Tissue Images/TCGA-18-5592-01Z-00-DX1.tif   1000x1000
  SOURCE/Annotations/TCGA-18-5592-01Z-00-DX1.xml     outlines, Aperio ImageScope
SOURCE may also be that of monuseg: its training folder holds these 30 images, others are left out.""",
        licence=None,
        citation='Kumar et al.: A dataset and a technique for generalized nuclear segmentation for computational '
        'pathology. IEEE Transactions on Medical Imaging 36, 1550-1560 (2017), doi:10.1109/TMI.2017.2677499',
        page='https://nucleisegmentationbenchmark.weebly.com/',
        list_samples=list_kumar,
        images=len(KUMAR),
        nuclei=21623,
        splits=_kumar_splits,
        overlaps=OVERLAPS,
    ),
    Converter(
        name='monusac',
        title='MoNuSAC',
        layout="""\
  SOURCE/MoNuSAC_images_and_annotations/<patient>/<patient>_1.tif              sizes differ
  SOURCE/MoNuSAC_images_and_annotations/<patient>/<patient>_1.xml              outlines, Aperio ImageScope
  SOURCE/MoNuSAC Testing Data and Annotations/<patient>/<patient>_1.tif, .xml
A layer "Ambiguous" of the XML becomes ignore/. Unpack both archives into SOURCE; one of them alone is read too.""",
        licence='CC BY-NC-SA 4.0',
        citation='Verma et al.: MoNuSAC2020: A multi-organ nuclei segmentation and classification challenge. IEEE '
        'Transactions on Medical Imaging 40, 3413-3423 (2021), doi:10.1109/TMI.2021.3085712',
        page='https://monusac-2020.grand-challenge.org/Data/',
        list_samples=list_monusac,
        classes=['background', *(name.lower() for name in TYPES)],
        images=sum(MONUSAC_IMAGES.values()),
        splits=_monusac_splits,
        overlaps=OVERLAPS,
    ),
)
