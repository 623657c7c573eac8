"""CoNIC's arrays and Lizard's .mat files come out nucleus by nucleus, with types, groups and the authors' splits."""

from functools import partial

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters.base import Sample
from mmgfnuc.datasets.converters.conic import CONVERTERS, baseline_split
from mmgfnuc.datasets.converters.convert import convert
from mmgfnuc.datasets.validate import validate_dataset

from .prepared import assert_refused, read, splits_of, truncate

CONIC, LIZARD = CONVERTERS
TYPES = ['background', 'neutrophil', 'epithelial', 'lymphocyte', 'plasma', 'eosinophil', 'connective']
SIDE = 32


def draw(shape, nuclei):
    """Instance map and class map of {id: (class, rows, columns)}."""
    instances, classes = np.zeros((2, *shape), np.int32)
    for nucleus, (kind, rows, columns) in nuclei.items():
        instances[rows, columns] = nucleus
        classes[rows, columns] = kind
    return instances, classes


class FakeCoNIC:
    """The challenge's folder with three small patches of two source images, in an order of its own."""

    NAMES = ('glas_2-0001', 'consep_1-0000', 'glas_2-0000')
    NUCLEI = (
        {1: (2, slice(0, 4), slice(0, 5)), 2: (2, slice(0, 4), slice(5, 9)), 3: (6, slice(20, 25), slice(3, 8))},
        {},
        {1: (1, slice(0, 3), slice(0, 3)), 2: (5, slice(8, 9), slice(8, 9))},
    )

    def __init__(self, root):
        self.root = root
        self.images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
        maps = [np.stack(draw((SIDE, SIDE), nuclei), axis=-1) for nuclei in self.NUCLEI]
        self.labels = np.stack(maps).astype(np.uint16)
        root.mkdir()
        self.save()
        (root / 'patch_info.csv').write_text('patch_info\n' + ''.join(f'{name}\n' for name in self.NAMES))
        (root / 'counts.csv').write_text(','.join(TYPES[1:]) + '\n')

    def save(self):
        np.save(self.root / 'images.npy', self.images)
        np.save(self.root / 'labels.npy', self.labels)


@pytest.fixture
def conic(tmp_path):
    return FakeCoNIC(tmp_path / 'CoNIC')


def test_patches_come_out_under_their_names_with_every_nucleus_and_type(conic, tmp_path):
    report = convert(CONIC, conic.root, tmp_path / 'out', workers=1)
    assert (report.images, report.nuclei) == (3, 5)
    assert canonical.list_ids(tmp_path / 'out') == sorted(conic.NAMES)
    for index, (name, nuclei) in enumerate(zip(conic.NAMES, conic.NUCLEI, strict=True)):
        image, instances, types, _ = read(tmp_path / 'out', name)
        np.testing.assert_array_equal(image, conic.images[index])
        assert set(np.unique(instances)) - {0} == set(nuclei)
        for nucleus, (kind, rows, columns) in nuclei.items():
            assert (instances[rows, columns] == nucleus).all()
            assert (types[rows, columns] == kind).all()
            assert np.count_nonzero(instances == nucleus) == instances[rows, columns].size
        np.testing.assert_array_equal(types > 0, instances > 0)
    assert validate_dataset(tmp_path / 'out') == []


def test_the_group_of_a_patch_is_its_source_image(conic, tmp_path):
    convert(CONIC, conic.root, tmp_path / 'out', workers=1)
    meta = canonical.read_meta(tmp_path / 'out')
    scale = {'mpp': 0.5, 'magnification': 20.0}
    assert meta['images'] == {
        'consep_1-0000': {'group': 'consep_1', **scale},
        'glas_2-0000': {'group': 'glas_2', **scale},
        'glas_2-0001': {'group': 'glas_2', **scale},
    }
    assert meta['classes'] == TYPES
    assert meta['licence'] == 'CC BY-NC-SA 4.0'
    assert canonical.list_splits(tmp_path / 'out') == []


def test_whole_numbers_may_be_stored_as_floats(conic, tmp_path):
    expected = conic.labels[0, ..., 0]
    conic.labels = conic.labels.astype(np.float64)
    conic.save()
    convert(CONIC, conic.root, tmp_path / 'out', workers=1)
    np.testing.assert_array_equal(read(tmp_path / 'out', 'glas_2-0001')[1], expected)


def test_the_baseline_holds_out_a_fifth_of_the_sources_of_each_cohort_whole():
    cohorts = {'consep': 10, 'crag': 60, 'dpath': 70, 'glas': 60, 'pannuke': 30}
    sources = [f'{cohort}_{number}' for cohort, count in cohorts.items() for number in range(count)]
    patches = [
        Sample(f'{sources[i % len(sources)]}-{i:04d}', sources[i % len(sources)], lambda: None) for i in range(4981)
    ]
    (split,) = baseline_split(patches).values()
    assert sorted(split['train'] + split['val']) == sorted(sample.id for sample in patches)
    train, val = ({name.split('-')[0] for name in split[part]} for part in ('train', 'val'))
    assert not train & val
    assert {cohort: sum(source.startswith(cohort) for source in val) for cohort in cohorts} == {
        cohort: count // 5 for cohort, count in cohorts.items()
    }
    assert baseline_split(patches[:-1]) == {}


def spoil_labels(value, channel, conic):
    conic.labels = conic.labels.astype(np.float32)
    conic.labels[2, 0, 0, channel] = value
    conic.save()


def save_array(name, array, conic):
    np.save(conic.root / name, array, allow_pickle=True)


def write_table(text, conic):
    (conic.root / 'patch_info.csv').write_text(text)


@pytest.mark.parametrize(
    ('spoil', 'fault'),
    [
        (partial(spoil_labels, 1.5, 0), 'labels.npy: patch 2 holds 1.5, no whole number from 0 to 2147483647'),
        (partial(spoil_labels, 7, 1), 'labels.npy: patch 2 has class 7 of 6'),
        (partial(spoil_labels, 0, 1), 'labels.npy: patch 2 has pixels with a nucleus but no class'),
        (partial(spoil_labels, 0, 0), 'or a class but no nucleus'),
        (
            partial(save_array, 'images.npy', np.zeros((3, 4, 4, 4))),
            'images.npy: shape (3, 4, 4, 4) is not (N, H, W, 3)',
        ),
        (partial(save_array, 'labels.npy', np.zeros((2, SIDE, SIDE, 2))), 'labels.npy: (N, H, W) (2, 32, 32) differ'),
        (partial(save_array, 'labels.npy', np.array([None, {}], object)), 'labels.npy: unreadable ('),
        (lambda conic: truncate(conic.root / 'images.npy'), 'images.npy: unreadable ('),
        (lambda conic: (conic.root / 'labels.npy').unlink(), 'labels.npy: missing'),
        (lambda conic: (conic.root / 'images.npy').unlink(), 'holds no "images.npy"'),
        (lambda conic: (conic.root / 'patch_info.csv').unlink(), 'patch_info.csv: missing'),
        (partial(write_table, 'patch_info\nglas_1-0000\n'), 'patch_info.csv: 1 rows for 3 patches'),
        (partial(write_table, 'name\nglas_1-0000\n'), 'patch_info.csv: no column patch_info'),
        (partial(write_table, ''), 'patch_info.csv: no column patch_info'),
        (partial(write_table, 'patch_info\na-0\nb-0\nc\n'), "patch_info.csv: row 4: 'c' is not <image>-<number>"),
    ],
)
def test_a_bad_file_of_conic_is_one_line_and_nothing_is_written(conic, tmp_path, spoil, fault):
    spoil(conic)
    assert_refused(CONIC, conic.root, tmp_path / 'out', {'': fault})


class FakeLizard:
    """The three archives, unpacked beside each other, with small images of different sizes."""

    # Name, size, nuclei by id, fold. Ids have gaps, and the rows of `id` and `class` an order of their own.
    IMAGES = (
        ('consep_1', (20, 30), {9: (4, slice(0, 5), slice(0, 6)), 2: (2, slice(0, 5), slice(6, 9))}, 1),
        ('crag_7', (24, 16), {1: (6, slice(3, 8), slice(3, 8))}, 2),
        ('dpath_12', (16, 16), {5: (3, slice(1, 2), slice(1, 4)), 4: (1, slice(9, 12), slice(9, 12))}, 3),
        ('glas_3', (18, 18), {}, 1),
    )

    def __init__(self, root):
        self.root = root
        self.labels = root / 'lizard_labels' / 'Lizard_Labels' / 'Labels'
        self.labels.mkdir(parents=True)
        self.info = self.labels.parent / 'info.csv'
        self.info.write_text('Filename,Source,Split\n' + ''.join(f'{n},cohort,{fold}\n' for n, *_, fold in self.IMAGES))
        self.images = {}
        for name, size, nuclei, _ in self.IMAGES:
            path = self.image(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.images[name] = np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(self.images[name]).save(path)
            self.save(name, draw(size, nuclei)[0], list(nuclei), [kind for kind, *_ in nuclei.values()])

    def image(self, name):
        number = 1 if name.startswith(('consep', 'crag')) else 2
        return self.root / f'lizard_images{number}' / f'Lizard_Images{number}' / f'{name}.png'

    def label(self, name):
        return self.labels / f'{name}.mat'

    def save(self, name, instances, ids, classes):
        count = len(ids)
        content = {
            'inst_map': instances,
            'id': np.array(ids, np.uint16).reshape(count, 1),
            'class': np.array(classes).reshape(count, 1),
            'bbox': np.zeros((count, 4), np.uint16),
            'centroid': np.zeros((count, 2)),
        }
        savemat(self.label(name), content, do_compression=True)


@pytest.fixture
def lizard(tmp_path):
    return FakeLizard(tmp_path / 'Lizard')


def test_images_of_lizard_come_out_with_every_nucleus_and_type(lizard, tmp_path):
    report = convert(LIZARD, lizard.root, tmp_path / 'out', workers=1)
    assert (report.images, report.nuclei) == (4, 5)
    for name, size, nuclei, _ in lizard.IMAGES:
        image, instances, types, _ = read(tmp_path / 'out', name)
        expected, classes = draw(size, nuclei)
        np.testing.assert_array_equal(image, lizard.images[name])
        np.testing.assert_array_equal(instances, expected)
        np.testing.assert_array_equal(types, classes)
    meta = canonical.read_meta(tmp_path / 'out')
    assert meta['classes'] == TYPES
    assert meta['images'] == {name: {'group': name, 'mpp': 0.5, 'magnification': 20.0} for name, *_ in lizard.IMAGES}
    assert validate_dataset(tmp_path / 'out') == []


def test_each_fold_of_info_csv_is_held_out_once(lizard, tmp_path):
    convert(LIZARD, lizard.root, tmp_path / 'out', workers=1)
    assert splits_of(tmp_path / 'out') == {
        'official-1': {'train': ['crag_7', 'dpath_12'], 'val': ['consep_1', 'glas_3']},
        'official-2': {'train': ['consep_1', 'dpath_12', 'glas_3'], 'val': ['crag_7']},
        'official-3': {'train': ['consep_1', 'crag_7', 'glas_3'], 'val': ['dpath_12']},
    }


def test_files_of_lizard_without_partner_are_reported_at_once(lizard, tmp_path):
    lizard.label('consep_1').unlink()
    lizard.image('crag_7').rename(lizard.image('crag_8'))
    faults = {
        'consep_1.png': 'no label',
        'crag_8.png': 'no label',
        'crag_7.mat': 'no image of that name',
        'info.csv': 'no row for crag_8',
    }
    assert_refused(LIZARD, lizard.root, tmp_path / 'out', faults)


def relabel(instances, ids, classes, lizard):
    lizard.save('dpath_12', instances, ids, classes)


MAP = np.ones((16, 16), np.int32)


@pytest.mark.parametrize(
    ('spoil', 'fault'),
    [
        (partial(relabel, MAP, [2], [1]), 'dpath_12.mat: nucleus 1 has no class'),
        (partial(relabel, MAP, [1], [0]), 'dpath_12.mat: nucleus 1 has no class'),
        (partial(relabel, MAP, [1], [7]), 'dpath_12.mat: class holds 7, no whole number from 0 to 6'),
        (partial(relabel, MAP * 0.5, [1], [1]), 'dpath_12.mat: inst_map holds 0.5, no whole number'),
        (partial(relabel, MAP[:9], [1], [1]), 'dpath_12.mat: size (9, 16) differs from (16, 16) of dpath_12.png'),
        (partial(relabel, MAP[None], [1], [1]), 'dpath_12.mat: inst_map (1, 16, 16) is not (H, W)'),
        (lambda lizard: truncate(lizard.label('dpath_12')), 'dpath_12.mat: unreadable ('),
        (
            lambda lizard: savemat(lizard.label('dpath_12'), {'inst_map': MAP}),
            'dpath_12.mat: no numbers called id, class',
        ),
        (
            lambda lizard: savemat(lizard.label('dpath_12'), {'inst_map': MAP, 'id': [[1], [2]], 'class': [[1]]}),
            'dpath_12.mat: 2 ids for 1 classes',
        ),
        (lambda lizard: truncate(lizard.image('dpath_12')), 'dpath_12.png: unreadable ('),
        (lambda lizard: lizard.info.unlink(), 'info.csv: missing'),
        (lambda lizard: lizard.info.write_bytes(b'Filename,Split\n\xff,1\n'), 'info.csv: unreadable ('),
        (lambda lizard: lizard.labels.rename(lizard.root / 'elsewhere'), 'holds no "Labels/*.mat"'),
        (lambda lizard: lizard.image('glas_3').parent.rename(lizard.root / 'x'), 'holds no "Lizard_Images2/*.png"'),
    ],
)
def test_a_bad_file_of_lizard_is_one_line_and_nothing_is_written(lizard, tmp_path, spoil, fault):
    spoil(lizard)
    assert_refused(LIZARD, lizard.root, tmp_path / 'out', {'': fault})
