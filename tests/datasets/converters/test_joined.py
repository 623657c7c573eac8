"""Prepared sets become one set."""

import numpy as np
import pytest

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import CONVERTERS, convert
from mmgfnuc.errors import UserError

from ..small_set import Dataset


@pytest.fixture
def sets(tmp_path):
    first, second = (Dataset(tmp_path / 'sets' / name) for name in ('one', 'two'))
    second.write('a', image=np.full((60, 80, 3), 90, np.uint8))
    ignore = np.zeros((60, 80), bool)
    ignore[:5] = True
    canonical.write_sample(second.root, 'b', np.full((60, 80, 3), 80, np.uint8), np.eye(60, 80, dtype=np.int32), ignore)
    return first, second


def join(root, names='one,two', **settings):
    return convert(CONVERTERS['joined'], root / 'sets', root / 'out', {'sets': names, 'name': 'both'}, **settings)


def test_images_groups_and_terms_of_all_sets(tmp_path, sets):
    join(tmp_path, allow_leaks=True)
    meta = canonical.read_meta(tmp_path / 'out')
    assert set(meta['images']) == {f'{name}_{sample}' for name in ('one', 'two') for sample in 'abcd'}
    assert {meta['images'][f'{name}_c']['group'] for name in ('one', 'two')} == {'lung'}
    assert meta['licence'] == 'one: CC0; two: CC0'
    for name, dataset in zip(('one', 'two'), sets, strict=True):
        for sample in 'ab':
            own = canonical.sample_paths(dataset.root, sample)
            joined = canonical.sample_paths(tmp_path / 'out', f'{name}_{sample}')
            np.testing.assert_array_equal(canonical.read_image(joined.image), canonical.read_image(own.image))
            np.testing.assert_array_equal(canonical.read_label_map(joined.label), canonical.read_label_map(own.label))
    ignored = canonical.sample_paths(tmp_path / 'out', 'two_b').ignore
    assert ignored is not None
    assert canonical.read_ignore(ignored).mean() == 5 / 60


def test_sets_are_brought_to_one_pixel_size(tmp_path, sets):
    join(tmp_path, mpp=2.0)
    image = canonical.read_image(canonical.sample_paths(tmp_path / 'out', 'two_a').image)
    assert image.shape == (30, 40, 3)


@pytest.mark.parametrize(
    ('names', 'message'),
    [('one', 'two folders of SOURCE or more'), ('one,one', 'each once'), ('one,three', r'three.*meta\.json')],
)
def test_sets_that_cannot_be_joined(tmp_path, sets, names, message):
    with pytest.raises(UserError, match=message):
        join(tmp_path, names)


def test_sets_of_other_classes(tmp_path, sets):
    meta = canonical.read_meta(sets[1].root)
    canonical.write_meta(sets[1].root, {**meta, 'classes': ['background', 'round', 'flat']})
    with pytest.raises(UserError, match='join sets of the same classes'):
        join(tmp_path)
