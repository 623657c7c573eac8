"""The layout of the 2018 Data Science Bowl, in tiny trees, comes out as one sound dataset or not at all."""

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import convert
from mmgfnuc.datasets.converters.dsb2018 import CONVERTERS
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .prepared import assert_refused, read, truncate


class FakeBowl:
    def __init__(self, root):
        self.root = root

    def add(self, name, *nuclei, size=(12, 16)):
        """Write an image, RGBA as published, and a mask for each nucleus, a pair of slices."""
        image = np.random.default_rng(len(name)).integers(0, 256, (12, 16, 4), dtype=np.uint8)
        image[..., 3] = 255
        self.save(image, 'stage1_train', name, 'images', f'{name}.png')
        for number, places in enumerate(nuclei):
            mask = np.zeros(size, np.uint8)
            mask[places] = 255
            self.save(mask, 'stage1_train', name, 'masks', f'{number:064x}.png')
        return image[..., :3]

    def save(self, array, *parts):
        path = self.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


@pytest.fixture
def bowl(tmp_path):
    return FakeBowl(tmp_path / 'bowl')


def prepare(source, out):
    convert(CONVERTERS[0], source, out)
    return out


def test_each_mask_becomes_an_instance(bowl, tmp_path):
    image = bowl.add('aa', np.s_[1:4, 1:5], np.s_[4:8, 1:5], np.s_[9:11, 9:16])
    out = prepare(bowl.root, tmp_path / 'out')
    expected = np.zeros((12, 16), int)
    expected[1:4, 1:5], expected[4:8, 1:5], expected[9:11, 9:16] = 1, 2, 3
    prepared = read(out, 'aa')
    np.testing.assert_array_equal(prepared.instances, expected)
    np.testing.assert_array_equal(prepared.image, image)
    assert validate_dataset(out) == []


def test_a_nucleus_in_two_pieces_stays_one(bowl, tmp_path):
    bowl.add('aa', np.s_[1:9:4, 1:5])
    labels = canonical.read_label_map(prepare(bowl.root, tmp_path / 'out') / 'labels' / 'aa.png')
    assert labels[1, 1] == labels[5, 1] == 1
    assert labels[3, 1] == 0


@pytest.mark.parametrize('nuclei', [(np.s_[0:6, 0:6], np.s_[5:8, 5:8]), (np.s_[5:8, 5:8], np.s_[0:6, 0:6])])
def test_the_smaller_nucleus_keeps_shared_pixels(bowl, tmp_path, nuclei):
    bowl.add('aa', *nuclei)
    labels = canonical.read_label_map(prepare(bowl.root, tmp_path / 'out') / 'labels' / 'aa.png')
    assert labels[5, 5] == labels[7, 7] != labels[0, 0]
    assert np.count_nonzero(labels == labels[7, 7]) == 9
    assert np.count_nonzero(labels == labels[0, 0]) == 35


def test_each_image_is_a_group_and_there_is_no_split(bowl, tmp_path):
    bowl.add('aa', np.s_[1:4, 1:5])
    bowl.add('bbb', np.s_[1:4, 1:5])
    out = prepare(bowl.root / 'stage1_train', tmp_path / 'out')
    meta = canonical.read_meta(out)
    assert meta['images'] == {'aa': {'group': 'aa', 'mpp': None}, 'bbb': {'group': 'bbb', 'mpp': None}}
    assert meta['licence'] == 'CC0 1.0'
    assert canonical.list_splits(out) == []


def test_the_test_stage_beside_it_is_not_read(bowl, tmp_path):
    bowl.add('aa', np.s_[1:4, 1:5])
    bowl.save(np.zeros((12, 16, 4), np.uint8), 'stage1_test', 'zz', 'images', 'zz.png')
    assert canonical.list_ids(prepare(bowl.root, tmp_path / 'out')) == ['aa']
    with pytest.raises(UserError, match='give the folder stage1_train'):
        prepare(bowl.root / 'stage1_test', tmp_path / 'other')


def test_bad_files_are_reported_at_once(bowl, tmp_path):
    bowl.add('no_masks')
    for name in ('aa', 'no_image', 'truncated'):
        bowl.add(name, np.s_[1:4, 1:5])
    bowl.add('wide', np.s_[1:4, 1:5], size=(12, 17))
    (bowl.root / 'stage1_train/no_image/images/no_image.png').unlink()
    truncate(bowl.root / 'stage1_train/truncated/images/truncated.png')
    faults = {
        'no_image.png': 'missing',
        'no_masks/masks': 'no mask',
        'truncated.png': 'unreadable',
        'wide': 'size (12, 17) differs from (12, 16) of wide.png',
    }
    assert_refused(CONVERTERS[0], bowl.root, tmp_path / 'out', faults)
