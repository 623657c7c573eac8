"""MoNuSeg and Kumar: trees as their authors ship them come out nucleus by nucleus, with the published splits."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import convert
from mmgfnuc.datasets.converters.monuseg import ADDED, CONVERTERS, KUMAR, TEST
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .prepared import assert_refused, splits_of, truncate

MONUSEG, KUMAR_SET, _ = CONVERTERS
SIZE = 12, 20
# x from 1 to 5, y from 2 to 6; a neighbour that overlaps it; a nucleus cut by the border; a stray click.
OUTLINES = [
    [(1, 2), (5, 2), (5, 6), (1, 6)],
    [(4, 3), (9, 3), (9, 8), (4, 8)],
    [(17.2, 9.1), (25.0, 9.1), (25.0, 14.7), (17.2, 14.7)],
    [(3, 3), (4, 4)],
]


def expected_labels():
    labels = np.zeros(SIZE, np.int32)
    labels[9:, 17:] = 3
    labels[3:8, 4:9] = 2
    labels[2:6, 1:5] = 1
    return labels


class FakeMoNuSeg:
    """Both archives, unpacked."""

    def __init__(self, root, write_imagescope):
        self.root = root
        self.write_imagescope = write_imagescope
        training = root / 'MoNuSeg 2018 Training Data' / 'MoNuSeg 2018 Training Data'
        self.images, self.outlines = training / 'Tissue Images', training / 'Annotations'
        self.test = root / 'MoNuSegTestData' / 'MoNuSegTestData'

    def add(self, name, test=False, mpp=0.252, compression='lzw'):
        images, outlines = (self.test, self.test) if test else (self.images, self.outlines)
        for folder in (images, outlines):
            folder.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(list(name.encode())).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(image).save(images / f'{name}.tif', compression=f'tiff_{compression}')
        self.write_imagescope(outlines / f'{name}.xml', {'Description': OUTLINES}, mpp)
        return image

    def add_all(self, *names, test=False):
        for name in names:
            self.add(name, test)


@pytest.fixture
def source(tmp_path, write_imagescope):
    return FakeMoNuSeg(tmp_path / 'downloads', write_imagescope)


def prepare(converter, source, out, **options):
    return convert(converter, source.root, out, workers=1, **options)


def test_nuclei_images_patients_and_pixel_sizes_come_over(source, tmp_path):
    images = {
        'TCGA-18-5592-01Z-00-DX1': source.add('TCGA-18-5592-01Z-00-DX1'),
        'TCGA-AY-A8YK-01A-01-TS1': source.add('TCGA-AY-A8YK-01A-01-TS1', mpp=None),
        'TCGA-HE-7128-01Z-00-DX1': source.add('TCGA-HE-7128-01Z-00-DX1', mpp=0.5005, compression='adobe_deflate'),
        'TCGA-2Z-A9J9-01A-01-TS1': source.add('TCGA-2Z-A9J9-01A-01-TS1', test=True),
    }
    (source.images / '.DS_Store').touch()
    hidden = source.root / '__MACOSX' / 'Tissue Images'
    hidden.mkdir(parents=True)
    (hidden / '._TCGA-18-5592-01Z-00-DX1.tif').touch()
    report = prepare(MONUSEG, source, tmp_path / 'out')
    assert (report.images, report.nuclei) == (4, 12)
    for name, image in images.items():
        paths = canonical.sample_paths(tmp_path / 'out', name)
        np.testing.assert_array_equal(canonical.read_image(paths.image), image)
        np.testing.assert_array_equal(canonical.read_label_map(paths.label), expected_labels())
        assert paths.ignore is None
        assert paths.types is None
    assert canonical.read_meta(tmp_path / 'out')['images'] == {
        'TCGA-18-5592-01Z-00-DX1': {'group': 'TCGA-18-5592', 'mpp': 0.252, 'magnification': 40.0},
        'TCGA-AY-A8YK-01A-01-TS1': {'group': 'TCGA-AY-A8YK', 'mpp': None, 'magnification': 40.0},
        'TCGA-HE-7128-01Z-00-DX1': {'group': 'TCGA-HE-7128', 'mpp': 0.5005},
        'TCGA-2Z-A9J9-01A-01-TS1': {'group': 'TCGA-2Z-A9J9', 'mpp': 0.252, 'magnification': 40.0},
    }
    assert canonical.list_splits(tmp_path / 'out') == []
    assert ['4 images here, 51 as published' in difference for difference in report.differences] == [True]
    assert validate_dataset(tmp_path / 'out') == []


def test_both_protocols_of_monuseg(source, tmp_path):
    source.add_all(*KUMAR)
    source.add_all(*TEST, test=True)
    prepare(MONUSEG, source, tmp_path / 'thirty')
    assert canonical.list_splits(tmp_path / 'thirty') == ['30-train']
    source.add_all(*ADDED)
    report = prepare(MONUSEG, source, tmp_path / 'all')
    assert report.differences == []
    assert canonical.list_splits(tmp_path / 'all') == ['30-train', '37-train']
    for name, count in (('30-train', 30), ('37-train', 37)):
        split = canonical.read_split(tmp_path / 'all', name)
        assert {part: len(ids) for part, ids in split.items()} == {'train': count, 'test': 14}
        assert set(split['test']) == {path.stem for path in source.test.glob('*.tif')}
        assert set(split['train']) <= {path.stem for path in source.images.glob('*.tif')}
    seven = set(split['train']) - set(canonical.read_split(tmp_path / 'all', '30-train')['train'])
    assert seven == set(ADDED)


def test_kumar_takes_its_thirty_images_out_of_monuseg(source, tmp_path):
    source.add_all(*KUMAR, *ADDED)
    report = prepare(KUMAR_SET, source, tmp_path / 'out')
    assert report.images == 30
    assert report.nuclei == 90
    assert ['21,623 as published' in difference for difference in report.differences] == [True]
    splits = splits_of(tmp_path / 'out')
    sizes = {name: [len(split['train']), len(split['test'])] for name, split in splits.items()}
    assert sizes == {'official': [16, 14], 'official-same-organs': [16, 8], 'official-other-organs': [16, 6]}
    same, other = (set(splits[f'official-{kind}-organs']['test']) for kind in ('same', 'other'))
    assert same | other == set(splits['official']['test'])
    assert same & other == set()
    # Bladder, colon and stomach stand in no training image.
    assert {name[5:12] for name in other} == {'DK-A2I6', 'G2-A2EK', 'AY-A8YK', 'NH-A8F7', 'KB-A93J', 'RD-A8N9'}


def test_every_bad_file_is_reported_at_once_and_nothing_is_written(source, tmp_path):
    names = [f'TCGA-00-000{number}-01Z-00-DX1' for number in range(8)]
    source.add_all(*names)
    (source.outlines / f'{names[0]}.xml').unlink()
    (source.images / f'{names[1]}.tif').unlink()
    (source.outlines / f'{names[2]}.xml').write_text('<!DOCTYPE a [<!ENTITY a "b">]><Annotations>&a;</Annotations>')
    (source.outlines / f'{names[3]}.xml').write_text('<Annotations MicronsPerPixel="0.25"><Annotation>')
    truncate(source.images / f'{names[4]}.tif')
    far = [[(400, 400), (410, 400), (410, 410)]]
    source.write_imagescope(source.outlines / f'{names[5]}.xml', {'Description': far})
    tifffile.imwrite(source.images / f'{names[6]}.tif', np.zeros((*SIZE, 3), np.uint16), photometric='rgb')
    faults = (
        'no outlines',
        'no image',
        'EntitiesForbidden',
        'unreadable',
        'unreadable',
        'outside of the image',
        'more than 8 bits',
    )
    assert_refused(MONUSEG, source.root, tmp_path / 'out', dict(zip(names, faults, strict=False)))


def test_another_folder_is_explained(source, tmp_path):
    source.root.mkdir()
    (source.root / 'image.tif').touch()
    with pytest.raises(UserError, match='holds neither "Tissue Images" nor'):
        prepare(MONUSEG, source, tmp_path / 'out')
    source.add('TCGA-00-0000-01Z-00-DX1')
    with pytest.raises(UserError, match='no image of Kumar is there'):
        prepare(KUMAR_SET, source, tmp_path / 'out')
