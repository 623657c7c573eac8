"""MoNuSAC: patients in two folders; four types of nuclei, ambiguous areas ignored."""

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import convert
from mmgfnuc.datasets.converters.monuseg import CONVERTERS
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .prepared import assert_refused

MONUSAC = CONVERTERS[-1]
TRAIN, TEST = 'MoNuSAC_images_and_annotations', 'MoNuSAC Testing Data and Annotations'


def box(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


class FakeMoNuSAC:
    """Both archives, unpacked."""

    def __init__(self, root, write_imagescope):
        self.root = root
        self.write_imagescope = write_imagescope

    def add(self, folder, slide, number, layers, size=(12, 16), mode='RGB'):
        patient = self.root / folder / slide
        patient.mkdir(parents=True, exist_ok=True)
        name = f'{slide}_{number}'
        image = np.random.default_rng(list(name.encode())).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(image).convert(mode).save(patient / f'{name}.tif')
        (patient / f'{name}.svs').write_bytes(b'not read')
        self.write_imagescope(patient / f'{name}.xml', layers)
        return name, image


@pytest.fixture
def source(tmp_path, write_imagescope):
    return FakeMoNuSAC(tmp_path / 'MoNuSAC', write_imagescope)


def prepare(source, out):
    return convert(MONUSAC, source.root, out, workers=1)


def test_types_ambiguous_areas_and_patients_come_over(source, tmp_path):
    layers = {
        'Lymphocyte': [box(1, 1, 4, 4), box(3, 3, 6, 6)],
        'Epithelial': [box(8, 1, 11, 3)],
        'Neutrophil': [box(8, 5, 10, 7)],
        'Macrophage': [box(12, 5, 15, 9)],
    }
    ambiguous = {'Ambiguous': [box(0, 9, 6, 12), box(5, 0, 9, 2)], 'Description': [box(14, 0, 16, 2)]}
    train, train_image = source.add(TRAIN, 'TCGA-5P-A9K0-01Z-00-DX1', 1, layers, mode='RGBA')
    test, _ = source.add(TEST, 'TCGA-2Z-A9JG-01Z-00-DX1', 2, ambiguous | layers)
    report = prepare(source, tmp_path / 'out')
    assert (report.images, report.nuclei) == (2, 10)
    labels = np.zeros((12, 16), np.int32)
    types = np.zeros((12, 16), np.uint8)
    for number, (kind, rows, columns) in enumerate(
        (
            (2, slice(1, 4), slice(1, 4)),
            (2, slice(3, 6), slice(3, 6)),
            (1, slice(1, 3), slice(8, 11)),
            (4, slice(5, 7), slice(8, 10)),
            (3, slice(5, 9), slice(12, 15)),
        ),
        start=1,
    ):
        free = labels[rows, columns] == 0
        labels[rows, columns][free] = number
        types[rows, columns][free] = kind
    ignore = np.zeros((12, 16), bool)
    ignore[9:, :6] = ignore[:2, 5:8] = ignore[0, 8] = ignore[:2, 14:] = True
    meta = canonical.read_meta(tmp_path / 'out')
    assert meta['classes'] == ['background', 'epithelial', 'lymphocyte', 'macrophage', 'neutrophil']
    for name, group in ((train, 'TCGA-5P-A9K0'), (test, 'TCGA-2Z-A9JG')):
        paths = canonical.sample_paths(tmp_path / 'out', name)
        np.testing.assert_array_equal(canonical.read_label_map(paths.label), labels)
        np.testing.assert_array_equal(canonical.read_types(paths.types), types)
        assert meta['images'][name] == {'group': group, 'mpp': 0.252, 'magnification': 40.0}
    np.testing.assert_array_equal(canonical.read_image(tmp_path / 'out' / 'images' / f'{train}.png'), train_image)
    assert canonical.sample_paths(tmp_path / 'out', train).ignore is None
    np.testing.assert_array_equal(canonical.read_ignore(paths.ignore), ignore)
    assert validate_dataset(tmp_path / 'out') == []


@pytest.mark.slow
def test_the_official_split_needs_all_images(source, tmp_path):
    one = {'Epithelial': [box(1, 1, 3, 3)]}
    for number in range(209):
        source.add(TRAIN, f'TCGA-00-{number // 5:04d}-01Z-00-DX1', number, one, size=(4, 4))
    for number in range(84):
        source.add(TEST, f'TCGA-01-{number // 4:04d}-01Z-00-DX1', number, one, size=(4, 4))
    assert len(prepare(source, tmp_path / 'short').differences) == 1
    assert canonical.list_splits(tmp_path / 'short') == []
    last, _ = source.add(TEST, 'TCGA-01-0099-01Z-00-DX1', 99, one, size=(4, 4))
    assert prepare(source, tmp_path / 'all').differences == []
    split = canonical.read_split(tmp_path / 'all', 'official')
    assert {part: len(ids) for part, ids in split.items()} == {'train': 209, 'test': 85}
    assert last in split['test']


def test_bad_files_are_reported_at_once(source, tmp_path):
    slides = [f'TCGA-00-000{number}-01Z-00-DX1' for number in range(4)]
    for slide in slides:
        source.add(TRAIN, slide, 1, {'Epithelial': [box(1, 1, 3, 3)]})
    files = [source.root / TRAIN / slide / f'{slide}_1' for slide in slides]
    files[0].with_suffix('.tif').unlink()
    files[1].with_suffix('.xml').unlink()
    source.write_imagescope(files[2].with_suffix('.xml'), {'Fibroblast': [box(1, 1, 3, 3)]})
    source.write_imagescope(files[3].with_suffix('.xml'), {'Ambiguous': [box(50, 50, 60, 60)]})
    faults = dict(zip(slides, ('no image', 'no outlines', "layer 'Fibroblast'", 'outside'), strict=True))
    assert_refused(MONUSAC, source.root, tmp_path / 'out', faults)


def test_another_folder_is_explained(tmp_path):
    (tmp_path / 'source').mkdir()
    with pytest.raises(UserError, match='holds none of "MoNuSAC_images_and_annotations"'):
        convert(MONUSAC, tmp_path / 'source', tmp_path / 'out', workers=1)
