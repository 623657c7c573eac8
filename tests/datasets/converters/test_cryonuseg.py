"""CryoNuSeg in its authors' folders comes out as the annotation that was asked for, or not at all."""

import numpy as np
import pytest
import tifffile

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters.convert import convert
from mmgfnuc.datasets.converters.cryonuseg import CONVERTERS
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .prepared import assert_refused, read, truncate

(CRYONUSEG,) = CONVERTERS
ROUND_2 = 'Annotator 1 (biologist second round of manual marks up)'
ANNOTATOR_2 = 'Annotator 2 (bioinformatician)'
FOLDERS = {
    'annotator-1': 'Annotator 1 (biologist)',
    'annotator-1-round-2': f'{ROUND_2}/{ROUND_2}',
    'annotator-2': f'{ANNOTATOR_2}/{ANNOTATOR_2}',
}
SIZE = (24, 20)


def label_map(annotation, number):
    """Two nuclei; where they lie tells annotation and image apart."""
    labels = np.zeros(SIZE, np.uint16)
    labels[2:5, list(FOLDERS).index(annotation) : 6] = 3
    labels[10 : 12 + number, 8:12] = 400
    return labels


class FakeCryoNuSeg:
    """The authors' archive, unpacked, with small images."""

    def __init__(self, root):
        self.root = root
        self.images = {}
        for organ, number in (('AdrenalGland', 1), ('AdrenalGland', 2), ('Larynx', 1)):
            self.add(f'Human_{organ}_{number:02d}', number)

    def add(self, name, number):
        self.images[name] = np.random.default_rng(len(self.images)).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        tifffile.imwrite(self.file('tissue images', f'{name}.tif'), self.images[name])
        for annotation, folder in FOLDERS.items():
            for kind in ('label masks', 'label masks modify'):
                tifffile.imwrite(self.file(f'{folder}/{kind}', f'{name}.tif'), label_map(annotation, number))

    def label(self, name):
        return self.file(f'{FOLDERS["annotator-1"]}/label masks modify', f'{name}.tif')

    def image(self, name):
        return self.file('tissue images', f'{name}.tif')

    def file(self, folder, name):
        path = self.root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@pytest.fixture
def source(tmp_path):
    return FakeCryoNuSeg(tmp_path / 'CryoNuSeg')


def prepare(source, out, **options):
    return convert(CRYONUSEG, source.root, out, options, workers=1)


@pytest.mark.parametrize('annotation', FOLDERS)
def test_each_annotation_is_read_from_its_own_folder(source, tmp_path, annotation):
    report = prepare(source, tmp_path / 'out', annotation=annotation)
    assert (report.images, report.nuclei) == (3, 6)
    assert canonical.list_ids(tmp_path / 'out') == sorted(source.images)
    for name, image in source.images.items():
        prepared = read(tmp_path / 'out', name)
        np.testing.assert_array_equal(prepared.image, image)
        np.testing.assert_array_equal(prepared.instances, label_map(annotation, int(name[-2:])))
        assert prepared.types is prepared.ignore is None
    assert validate_dataset(tmp_path / 'out') == []


def test_the_first_round_of_the_biologist_is_the_default(source, tmp_path):
    prepare(source, tmp_path / 'out')
    labels = canonical.read_label_map(tmp_path / 'out' / 'labels' / 'Human_Larynx_01.png')
    np.testing.assert_array_equal(labels, label_map('annotator-1', 1))


def test_groups_are_organs_and_the_missing_images_are_told(source, tmp_path):
    report = prepare(source, tmp_path / 'out')
    meta = canonical.read_meta(tmp_path / 'out')
    unknown_scale = {'mpp': None, 'magnification': 40.0}
    assert meta['images'] == {
        'Human_AdrenalGland_01': {'group': 'AdrenalGland', **unknown_scale},
        'Human_AdrenalGland_02': {'group': 'AdrenalGland', **unknown_scale},
        'Human_Larynx_01': {'group': 'Larynx', **unknown_scale},
    }
    assert meta['classes'] == ['background', 'nucleus']
    assert '10.1016/j.compbiomed.2021.104349' in meta['citation']
    (difference,) = report.differences
    assert difference.startswith('3 images here, 30 as published')
    assert canonical.list_splits(tmp_path / 'out') == []


def test_a_folder_that_is_not_doubled_is_found_too(source, tmp_path):
    doubled = source.root / ANNOTATOR_2 / ANNOTATOR_2
    doubled.rename(source.root / 'for a moment')
    doubled.parent.rmdir()
    (source.root / 'for a moment').rename(source.root / ANNOTATOR_2)
    prepare(source, tmp_path / 'out', annotation='annotator-2')
    labels = canonical.read_label_map(tmp_path / 'out' / 'labels' / 'Human_Larynx_01.png')
    np.testing.assert_array_equal(labels, label_map('annotator-2', 1))


def test_files_without_partner_and_foreign_names_are_reported_at_once(source, tmp_path):
    source.label('Human_Larynx_01').unlink()
    source.image('Human_AdrenalGland_02').unlink()
    tifffile.imwrite(source.image('holiday'), np.zeros((*SIZE, 3), np.uint8))
    faults = {
        'Human_Larynx_01.tif': 'no label map',
        'Human_AdrenalGland_02.tif': 'no image of that name',
        'holiday.tif': 'not Human_<organ>_<number>',
    }
    assert_refused(CRYONUSEG, source.root, tmp_path / 'out', faults)


def write_label(path, labels):
    tifffile.imwrite(path, labels)


@pytest.mark.parametrize(
    ('spoil', 'fault'),
    [
        (lambda source: truncate(source.image('Human_Larynx_01')), 'unreadable'),
        (lambda source: truncate(source.label('Human_Larynx_01')), 'unreadable'),
        (lambda source: write_label(source.label('Human_Larynx_01'), np.full(SIZE, 0.5)), '0.5, no whole number'),
        (lambda source: write_label(source.label('Human_Larynx_01'), np.ones((9, 9), np.uint16)), 'size (9, 9)'),
        (lambda source: write_label(source.label('Human_Larynx_01'), np.ones((*SIZE, 3), np.uint16)), 'not (H, W)'),
    ],
)
def test_a_bad_file_is_one_line_and_nothing_is_written(source, tmp_path, spoil, fault):
    spoil(source)
    assert_refused(CRYONUSEG, source.root, tmp_path / 'out', {'Human_Larynx_01.tif': fault})


def test_a_missing_annotation_and_a_wrong_folder_are_explained(source, tmp_path):
    with pytest.raises(UserError, match="--annotation 'annotator-3' is unknown; choose one of annotator-1, "):
        prepare(source, tmp_path / 'out', annotation='annotator-3')
    (source.root / ANNOTATOR_2).rename(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match=r'holds no "label masks modify"; unpack the whole archive'):
        prepare(source, tmp_path / 'out', annotation='annotator-2')
    with pytest.raises(UserError, match='holds no "tissue images'):
        convert(CRYONUSEG, tmp_path / 'elsewhere', tmp_path / 'out', workers=1)
