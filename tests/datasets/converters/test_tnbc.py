"""TNBC: binary masks become nuclei by their connected parts, slides become groups."""

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import convert
from mmgfnuc.datasets.converters.tnbc import CONVERTERS
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .prepared import assert_refused, truncate

(TNBC,) = CONVERTERS
SIZE = 12, 16


def mask():
    """Four nuclei, two of which touch at a corner."""
    nuclei = np.zeros(SIZE, np.uint8)
    nuclei[1:4, 1:5] = nuclei[6:9, 1:4] = 255
    nuclei[2:5, 8:11] = nuclei[5:8, 11:14] = 255
    return nuclei


class FakeTNBC:
    """The archive, unpacked."""

    def __init__(self, root):
        self.root = root / 'TNBC_NucleiSegmentation'

    def add(self, slide, number, nuclei, mode='RGBA'):
        image = np.random.default_rng([slide, number]).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        self.save(f'Slide_{slide:02d}/{slide:02d}_{number}.png', Image.fromarray(image).convert(mode))
        self.save(f'GT_{slide:02d}/{slide:02d}_{number}.png', Image.fromarray(nuclei))
        return image

    def save(self, name, picture):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


@pytest.fixture
def source(tmp_path):
    return FakeTNBC(tmp_path / 'source')


def prepare(source, out):
    return convert(TNBC, source.root, out, workers=1)


def test_connected_parts_become_nuclei_and_slides_groups(source, tmp_path):
    images = {'01_1': source.add(1, 1, mask()), '11_2': source.add(11, 2, mask(), mode='RGB')}
    source.add(12, 1, mask())  # brain
    report = prepare(source, tmp_path / 'out')
    assert (report.images, report.nuclei) == (2, 6)
    expected = np.zeros(SIZE, np.int32)
    expected[1:4, 1:5] = 1
    expected[2:5, 8:11] = expected[5:8, 11:14] = 2
    expected[6:9, 1:4] = 3
    for name, image in images.items():
        paths = canonical.sample_paths(tmp_path / 'out', name)
        np.testing.assert_array_equal(canonical.read_image(paths.image), image)
        np.testing.assert_array_equal(canonical.read_label_map(paths.label), expected)
    assert canonical.read_meta(tmp_path / 'out')['images'] == {
        '01_1': {'group': 'Slide_01', 'mpp': None, 'magnification': 40.0},
        '11_2': {'group': 'Slide_11', 'mpp': None, 'magnification': 40.0},
    }
    assert canonical.list_splits(tmp_path / 'out') == []
    assert validate_dataset(tmp_path / 'out') == []


@pytest.mark.parametrize('form', ['ones', 'colours', 'one bit', 'transparent'])
def test_masks_in_any_form_are_read(source, tmp_path, form):
    grey = mask()
    colours = np.repeat(grey[..., None], 3, axis=2)
    forms = {
        'ones': grey // 255,
        'colours': colours,
        'one bit': grey > 0,
        'transparent': np.dstack([colours, np.full(SIZE, 255, np.uint8)]),
    }
    source.add(1, 1, forms[form])
    assert prepare(source, tmp_path / 'out').nuclei == 3


def test_empty_masks_are_images_without_nuclei(source, tmp_path):
    source.add(1, 1, np.zeros(SIZE, np.uint8))
    assert prepare(source, tmp_path / 'out').nuclei == 0


def test_every_bad_file_is_reported_at_once_and_nothing_is_written(source, tmp_path):
    source.add(1, 1, np.where(mask() > 0, 3, 0).astype(np.uint8) * (np.arange(16) > 6).astype(np.uint8) + mask() // 255)
    source.add(1, 2, np.full(SIZE, 255, np.uint8))
    source.add(1, 3, mask()[:, :9])
    source.add(1, 4, mask())
    (source.root / 'GT_01' / '01_4.png').unlink()
    source.add(2, 1, mask())
    (source.root / 'Slide_02' / '02_1.png').unlink()
    source.add(2, 2, mask())
    truncate(source.root / 'GT_02' / '02_2.png')
    faults = {
        'GT_01/01_1.png': '3 grey values from 0 to 4',
        'GT_01/01_2.png': '1 grey values from 255',
        'GT_01/01_3.png': 'size (12, 9) differs from (12, 16)',
        'Slide_01/01_4.png': 'no mask',
        'GT_02/02_1.png': 'no image',
        'GT_02/02_2.png': 'unreadable',
    }
    assert_refused(TNBC, source.root, tmp_path / 'out', faults)


def test_another_folder_is_explained(source, tmp_path):
    source.root.mkdir(parents=True)
    with pytest.raises(UserError, match='give the folder that holds Slide_01 and GT_01'):
        prepare(source, tmp_path / 'out')
