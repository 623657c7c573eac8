"""CoNSeP and CPM-17: images beside MATLAB files come out nucleus by nucleus, or as one clear error for each file."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import convert
from mmgfnuc.datasets.converters.hovernet_sets import CONVERTERS
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .prepared import assert_refused, read

CONSEP, CPM17 = CONVERTERS
SIZE = 12, 16
# Ids are not in the order of reading, and one is missing.
NUCLEI = {5: (slice(1, 4), slice(1, 5)), 1: (slice(6, 9), slice(1, 4)), 3: (slice(2, 6), slice(8, 12))}
TYPES = {1: 7, 3: 2, 5: 4}


def label_map():
    labels = np.zeros(SIZE, np.int32)
    for number, place in NUCLEI.items():
        labels[place] = number
    return labels


def matlab_7_3():
    """First bytes of a MATLAB file of version 7.3: its text, its version, HDF5 behind them."""
    return b'MATLAB 7.3 MAT-file'.ljust(124) + b'\x00\x02IM' + b'\x89HDF\r\n\x1a\n' + bytes(400)


class FakeSet:
    """A tree in the layout of HoVer-Net."""

    def __init__(self, root):
        self.root = root

    def add(self, part, name, **variables):
        for folder in ('Images', 'Labels', 'Overlay'):
            (self.root / part / folder).mkdir(parents=True, exist_ok=True)
        seed = list(f'{part} {name}'.encode())
        image = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(image).save(self.root / part / 'Images' / f'{name}.png')
        savemat(self.label(part, name), variables)
        return image

    def add_typed(self, part, name, labels=None, types=None):
        labels = label_map().astype(float) if labels is None else labels
        types = np.array([[TYPES[number]] for number in sorted(TYPES)], float) if types is None else types
        centroids = np.zeros((len(types), 2))
        type_map = np.zeros(SIZE)
        return self.add(part, name, inst_map=labels, type_map=type_map, inst_type=types, inst_centroid=centroids)

    def label(self, part, name):
        return self.root / part / 'Labels' / f'{name}.mat'


@pytest.fixture
def source(tmp_path):
    return FakeSet(tmp_path / 'source')


def prepare(converter, source, out):
    return convert(converter, source.root, out, workers=1)


def test_nuclei_and_types_of_consep_come_over(source, tmp_path):
    image = source.add_typed('Train', 'train_1')
    source.add_typed('Test', 'test_1')
    report = prepare(CONSEP, source, tmp_path / 'out')
    assert (report.images, report.nuclei) == (2, 6)
    types = np.zeros(SIZE, np.uint8)
    for number, place in NUCLEI.items():
        types[place] = TYPES[number]
    for name in ('train_1', 'test_1'):
        paths = canonical.sample_paths(tmp_path / 'out', name)
        np.testing.assert_array_equal(canonical.read_label_map(paths.label), label_map())
        np.testing.assert_array_equal(canonical.read_types(paths.types), types)
    np.testing.assert_array_equal(canonical.read_image(tmp_path / 'out' / 'images' / 'train_1.png'), image)
    meta = canonical.read_meta(tmp_path / 'out')
    assert len(meta['classes']) == 8
    assert [meta['classes'][TYPES[number]] for number in (1, 3, 5)] == [
        'endothelial',
        'inflammatory',
        'dysplastic or malignant epithelial',
    ]
    assert meta['images']['train_1'] == {'group': 'train', 'mpp': None, 'magnification': 40.0}
    assert meta['images']['test_1'] == {'group': 'test', 'mpp': None, 'magnification': 40.0}
    assert canonical.list_splits(tmp_path / 'out') == []
    assert validate_dataset(tmp_path / 'out') == []


def test_the_official_split_of_consep_needs_all_images(source, tmp_path):
    for number in range(1, 28):
        source.add_typed('Train', f'train_{number}')
    for number in range(1, 15):
        source.add_typed('Test', f'test_{number}')
    prepare(CONSEP, source, tmp_path / 'out')
    split = canonical.read_split(tmp_path / 'out', 'official')
    assert set(split['train']) == {f'train_{number}' for number in range(1, 28)}
    assert set(split['test']) == {f'test_{number}' for number in range(1, 15)}


@pytest.mark.parametrize('kind', [bool, np.uint16, np.float32, np.float64, np.int64])
def test_label_maps_of_any_number_type_are_read(source, tmp_path, kind):
    labels = (label_map() == 3).astype(int) if kind is bool else label_map()
    source.add('train', 'image_00', inst_map=labels.astype(kind))
    prepare(CPM17, source, tmp_path / 'out')
    np.testing.assert_array_equal(read(tmp_path / 'out', 'train_image_00').instances, labels)


def test_parts_of_cpm17_share_names_but_not_images(source, tmp_path):
    images = {part: source.add(part, 'image_00', inst_map=label_map()) for part in ('train', 'test')}
    report = prepare(CPM17, source, tmp_path / 'out')
    assert (report.images, report.nuclei) == (2, 6)
    for part, image in images.items():
        path = tmp_path / 'out' / 'images' / f'{part}_image_00.png'
        np.testing.assert_array_equal(canonical.read_image(path), image)
        assert canonical.sample_paths(tmp_path / 'out', f'{part}_image_00').types is None
    expected = {'train': ['train_image_00'], 'test': ['test_image_00']}
    assert canonical.read_split(tmp_path / 'out', 'official') == expected
    assert canonical.read_meta(tmp_path / 'out')['images']['train_image_00'] == {'group': 'train', 'mpp': None}


def test_every_bad_file_is_reported_at_once_and_nothing_is_written(source, tmp_path):
    faults = {}
    for number, (variables, fault) in enumerate(
        [
            (dict(inst_map=label_map() + 0.5), 'no whole number'),
            (dict(inst_map=label_map() - 1), 'no whole number'),
            (dict(inst_map=np.full(SIZE, np.nan)), 'no whole number'),
            (dict(inst_map=np.full(SIZE, 'a')), 'no numbers'),
            (dict(inst_map=label_map()[None]), 'shape (1, 12, 16), not (H, W)'),
            (dict(inst_map=label_map()[:, :9]), 'size (12, 9) differs from (12, 16)'),
            (dict(labels=label_map()), 'holds no inst_map'),
            (dict(inst_map=label_map(), inst_type=[2, 3]), '2 types in inst_type, 3 nuclei'),
            (dict(inst_map=label_map(), inst_type=[2, 3, 8]), 'inst_type holds 8'),
            (dict(inst_map=label_map(), inst_type=[2, 3, 0]), 'inst_type holds 0'),
            (dict(inst_map=label_map(), inst_type=[2, 3, 1.5]), 'inst_type holds 1.5'),
            (dict(inst_map=label_map()), 'holds no inst_type'),
        ],
        start=1,
    ):
        source.add('Train', f'train_{number}', **({'inst_type': [1, 2, 3]} if number < 8 else {}) | variables)
        faults[f'train_{number}'] = fault
    for number, content, fault in (
        (20, b'', 'unreadable MATLAB file'),
        (21, b'hello' * 100, 'unreadable MATLAB file'),
        (22, matlab_7_3(), 'version 7.3'),
        (23, None, 'unreadable MATLAB file'),
    ):
        source.add_typed('Train', f'train_{number}')
        path = source.label('Train', f'train_{number}')
        path.write_bytes(path.read_bytes()[:300] if content is None else content)
        faults[f'train_{number}'] = fault
    source.add_typed('Train', 'train_30')
    source.label('Train', 'train_30').unlink()
    source.add_typed('Train', 'train_31')
    (source.root / 'Train' / 'Images' / 'train_31.png').unlink()
    faults |= {'train_30': 'no labels', 'train_31': 'no image'}
    assert_refused(CONSEP, source.root, tmp_path / 'out', {f'{name}.': fault for name, fault in faults.items()})


def test_files_of_matlab_7_3_are_what_scipy_takes_them_for():
    with pytest.raises(NotImplementedError):
        loadmat(io.BytesIO(matlab_7_3()))


def test_another_folder_is_explained(source, tmp_path):
    source.add('train', 'image_00', inst_map=label_map())
    with pytest.raises(UserError, match='holds no images in "Train/Images" and "Test/Images"'):
        prepare(CONSEP, source, tmp_path / 'out')
