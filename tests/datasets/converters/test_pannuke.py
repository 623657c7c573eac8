"""PanNuke's arrays come out patch by patch with every nucleus and its type, in the splits of its authors."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters.convert import convert
from mmgfnuc.datasets.converters.pannuke import CONVERTERS
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .prepared import assert_refused, read, truncate

(PANNUKE,) = CONVERTERS
NEOPLASTIC, INFLAMMATORY, CONNECTIVE, DEAD, EPITHELIAL, BACKGROUND = range(6)
SIDE = 32
# Channel, id, rows, columns. The first patch of each fold: ids that collide between channels, and one in two pieces.
FIRST_PATCH = [
    (NEOPLASTIC, 7, slice(0, 4), slice(0, 4)),
    (NEOPLASTIC, 3000, slice(6, 9), slice(0, 4)),
    (INFLAMMATORY, 7, slice(0, 4), slice(10, 14)),
    (DEAD, 7, slice(12, 14), slice(10, 14)),
    (DEAD, 7, slice(16, 18), slice(10, 14)),
    (EPITHELIAL, 1, slice(20, 24), slice(20, 30)),
]


def masks_of(nuclei):
    masks = np.zeros((SIDE, SIDE, 6))
    for channel, nucleus, rows, columns in nuclei:
        masks[rows, columns, channel] = nucleus
    masks[..., BACKGROUND] = ~masks[..., :BACKGROUND].any(axis=-1)
    return masks


class FakePanNuke:
    """The three archives, unpacked beside each other, with small patches: float64 as released."""

    def __init__(self, root):
        self.root = root
        self.images, self.masks = {}, {}
        for fold, patches in ((1, 2), (2, 1), (3, 1)):
            rng = np.random.default_rng(fold)
            self.images[fold] = rng.integers(0, 256, (patches, SIDE, SIDE, 3)).astype(np.float64)
            self.masks[fold] = np.stack([masks_of(FIRST_PATCH if i == 0 else []) for i in range(patches)])
            self.save(fold)

    def path(self, fold, kind, name=None):
        return self.root / f'Fold {fold}' / kind / f'fold{fold}' / f'{name or kind}.npy'

    def save(self, fold):
        for kind, array in (('images', self.images[fold]), ('masks', self.masks[fold])):
            self.path(fold, kind).parent.mkdir(parents=True, exist_ok=True)
            np.save(self.path(fold, kind), array)
        np.save(self.path(fold, 'images', 'types'), np.array(['Bile-duct'] * len(self.images[fold])))


@pytest.fixture
def source(tmp_path):
    return FakePanNuke(tmp_path / 'PanNuke')


def prepare(source, out):
    return convert(PANNUKE, source.root, out, workers=1)


def test_every_nucleus_keeps_its_pixels_and_type_and_no_two_share_a_number(source, tmp_path):
    report = prepare(source, tmp_path / 'out')
    assert (report.images, report.nuclei) == (4, 15)
    image, instances, types, _ = read(tmp_path / 'out', 'fold1_0000')
    np.testing.assert_array_equal(image, source.images[1][0])
    assert len(np.unique(instances[instances > 0])) == 5
    covered = np.zeros(instances.shape, bool)
    for channel in (NEOPLASTIC, INFLAMMATORY, DEAD, EPITHELIAL):
        for nucleus in {n for c, n, _, _ in FIRST_PATCH if c == channel}:
            pixels = source.masks[1][0, ..., channel] == nucleus
            (number,) = np.unique(instances[pixels])
            np.testing.assert_array_equal(instances == number, pixels)
            assert set(types[pixels]) == {channel + 1}
            covered |= pixels
    assert not instances[~covered].any()
    assert not types[~covered].any()
    classes = canonical.read_meta(tmp_path / 'out')['classes']
    assert classes == ['background', 'neoplastic', 'inflammatory', 'connective', 'dead', 'epithelial']
    assert validate_dataset(tmp_path / 'out') == []


def test_a_patch_without_nuclei_is_background(source, tmp_path):
    # Some patches of the release have an empty background channel as well.
    source.masks[1][1] = 0
    source.save(1)
    prepare(source, tmp_path / 'out')
    _, instances, types, _ = read(tmp_path / 'out', 'fold1_0001')
    assert not instances.any()
    assert not types.any()


def test_where_types_overlap_the_later_channel_is_kept(source, tmp_path):
    nuclei = [(NEOPLASTIC, 1, slice(0, 6), slice(0, 6)), (CONNECTIVE, 1, slice(4, 8), slice(4, 8))]
    source.masks[2] = masks_of(nuclei)[None]
    source.save(2)
    prepare(source, tmp_path / 'out')
    _, instances, types, _ = read(tmp_path / 'out', 'fold2_0000')
    later = source.masks[2][0, ..., CONNECTIVE] > 0
    earlier = (source.masks[2][0, ..., NEOPLASTIC] > 0) & ~later
    assert (later.sum(), earlier.sum()) == (16, 32)
    assert set(types[later]) == {CONNECTIVE + 1}
    assert set(types[earlier]) == {NEOPLASTIC + 1}
    assert len(set(instances[later]) | set(instances[earlier])) == 2


def test_folds_are_groups_and_rotate_as_in_the_authors_protocol(source, tmp_path):
    prepare(source, tmp_path / 'out')
    folds = {1: ['fold1_0000', 'fold1_0001'], 2: ['fold2_0000'], 3: ['fold3_0000']}
    images = canonical.read_meta(tmp_path / 'out')['images']
    assert images == {
        name: {'group': f'fold{fold}', 'mpp': 0.25, 'magnification': 40.0}
        for fold, names in folds.items()
        for name in names
    }
    splits = {name: canonical.read_split(tmp_path / 'out', name) for name in canonical.list_splits(tmp_path / 'out')}
    assert splits == {
        'official-train1-val2-test3': {'train': folds[1], 'val': folds[2], 'test': folds[3]},
        'official-train2-val1-test3': {'train': folds[2], 'val': folds[1], 'test': folds[3]},
        'official-train3-val2-test1': {'train': folds[3], 'val': folds[2], 'test': folds[1]},
    }
    for name in splits:
        assert validate_dataset(tmp_path / 'out', name) == []


def test_one_fold_alone_has_no_official_split(source, tmp_path):
    report = convert(PANNUKE, source.root / 'Fold 1', tmp_path / 'out', workers=1)
    assert canonical.list_ids(tmp_path / 'out') == ['fold1_0000', 'fold1_0001']
    assert canonical.list_splits(tmp_path / 'out') == []
    assert report.differences[0].startswith('2 images here, 7,901 as published')


def test_archives_unpacked_into_folders_of_their_own_are_found(source, tmp_path):
    for fold in (1, 2, 3):
        (source.root / f'fold_{fold}').mkdir()
        (source.root / f'Fold {fold}').rename(source.root / f'fold_{fold}' / f'Fold {fold}')
    assert prepare(source, tmp_path / 'out').images == 4


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize('kind', ['images', 'masks', 'types'])
def test_pickled_objects_are_never_loaded(source, tmp_path, kind):
    trace = tmp_path / 'unpickled'
    path = source.path(1, 'images', 'types') if kind == 'types' else source.path(1, kind)
    np.save(path, np.array([Bomb(trace), None], object), allow_pickle=True)
    if kind == 'types':  # not needed, so not read
        prepare(source, tmp_path / 'out')
    else:
        with pytest.raises(UserError, match=rf'^[^\n]*{kind}.npy: unreadable [^\n]*objects[^\n]*$'):
            prepare(source, tmp_path / 'out')
    assert not trace.exists()


def set_value(kind, value, source):
    array = getattr(source, kind)[1]
    array[1, 5, 6, 2] = value
    source.save(1)


def replace_array(kind, array, source):
    np.save(source.path(1, kind), array)


def cut_off(kind, source):
    truncate(source.path(1, kind))


def remove(kind, source):
    source.path(1, kind).unlink()


PIXELS = np.zeros((2, SIDE, SIDE, 3))


@pytest.mark.parametrize(
    ('spoil', 'fault'),
    [
        (partial(set_value, 'masks', 0.5), 'masks.npy: patch 1 holds 0.5, no whole number from 0 to 2147483647'),
        (partial(set_value, 'masks', np.nan), 'masks.npy: patch 1 holds nan, no whole number'),
        (partial(set_value, 'masks', -1), 'masks.npy: patch 1 holds -1, no whole number'),
        (partial(set_value, 'images', 256), 'images.npy: patch 1 holds 256, no whole number from 0 to 255'),
        (partial(set_value, 'images', 0.25), 'images.npy: patch 1 holds 0.25, no whole number'),
        (partial(replace_array, 'masks', np.zeros((2, SIDE, SIDE, 5))), f'shape (2, {SIDE}, {SIDE}, 5) is not (N, H'),
        (partial(replace_array, 'masks', np.zeros((1, SIDE, SIDE, 6))), f'(1, {SIDE}, {SIDE}) differ from (2, {SIDE}'),
        (partial(replace_array, 'images', PIXELS[0]), f'images.npy: shape ({SIDE}, {SIDE}, 3) is not (N, H, W, 3)'),
        (partial(replace_array, 'images', PIXELS.astype(str)), 'images.npy: holds <U32, no numbers'),
        (partial(cut_off, 'images'), 'images.npy: unreadable ('),
        (partial(cut_off, 'masks'), 'masks.npy: unreadable ('),
        (partial(remove, 'masks'), 'masks.npy: missing'),
    ],
)
def test_a_bad_array_is_one_line_and_nothing_is_written(source, tmp_path, spoil, fault):
    spoil(source)
    assert_refused(PANNUKE, source.root, tmp_path / 'out', {'': fault})


def test_a_wrong_folder_is_explained(tmp_path):
    (tmp_path / 'PanNuke').mkdir()
    with pytest.raises(UserError, match='give the folder with "Fold 1" to "Fold 3"'):
        convert(PANNUKE, tmp_path / 'PanNuke', tmp_path / 'out', workers=1)
