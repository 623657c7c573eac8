"""The layout of NuCLS, in tiny trees: outlined nuclei, boxed nuclei, the margin, hospitals."""

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters import convert
from mmgfnuc.datasets.converters.nucls import CONVERTERS
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.errors import UserError

from .prepared import assert_refused

COLUMNS = 'raw_classification main_classification super_classification type xmin ymin xmax ymax coords_x coords_y'
HEADER = COLUMNS.split()
SIZE = 20, 24
FIELD = '_id-5ea40a88ddda5f8398990ccf_left-1_top-2_bottom-22_right-26'


def outlined(kind, x, y):
    """Line of a nucleus with an outline."""
    return ['', kind, '', 'polyline', min(x), min(y), max(x), max(y), ','.join(map(str, x)), ','.join(map(str, y))]


def boxed(kind, left, top, right, bottom):
    """Line of a nucleus with a box alone."""
    return ['', kind, '', 'rectangle', left, top, right, bottom, '', '']


class FakeNuCLS:
    def __init__(self, root):
        self.root = root

    def add(self, slide, *rows, header=HEADER):
        stem = slide + FIELD
        image = np.random.default_rng(list(slide.encode())).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        mask = np.zeros((*SIZE, 3), np.uint8)
        mask[2:-2, 2:-2, 0] = 253
        self.save(image, 'rgb', stem)
        self.save(mask, 'mask', stem)
        lines = [','.join(f'"{value}"' for value in row) for row in (header, *rows)]
        self.write('\n'.join(lines), 'csv', f'{stem}.csv')
        return stem

    def save(self, array, folder, stem):
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(self.root / folder / f'{stem}.png')

    def write(self, text, folder, name):
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / folder / name).write_text(text)

    def add_folds(self, *slides):
        for fold, slide in enumerate(slides, start=1):
            text = f',slide_name,hospital,type,fold\n0,{slide},{slide[5:7]},test,{fold}\n'
            self.write(text, 'train_test_splits', f'fold_{fold}_test.csv')


@pytest.fixture
def source(tmp_path):
    return FakeNuCLS(tmp_path / 'QC')


def prepare(source, out):
    convert(CONVERTERS[0], source.root, out)
    return out


def test_outlines_become_instances_boxes_and_margin_are_ignored(source, tmp_path):
    stem = source.add(
        'TCGA-A1-A0SP-DX1',
        outlined('lymphocyte', [4, 8, 8, 4], [4, 4, 7, 7]),
        boxed('macrophage', 12, 5, 15, 9),
        outlined('AMBIGUOUS', [0, 3, 3, 0], [10, 10, 12, 12]),
        boxed('fov_basic', 2, 2, 21, 17),
    )
    out = prepare(source, tmp_path / 'out')
    paths = canonical.sample_paths(out, stem)
    nuclei = np.zeros(SIZE, 'U12')
    nuclei[4:8, 4:9] = 'lymphocyte'
    nuclei[10:13, 0:4] = 'AMBIGUOUS'
    classes = np.array(canonical.read_meta(out)['classes'])
    np.testing.assert_array_equal(
        classes[canonical.read_types(paths.types)], np.where(nuclei == '', 'background', nuclei)
    )
    np.testing.assert_array_equal(canonical.read_label_map(paths.label) > 0, nuclei != '')
    ignored = np.ones(SIZE, bool)
    ignored[2:-2, 2:-2] = False
    ignored[5:10, 12:16] = True
    np.testing.assert_array_equal(canonical.read_ignore(paths.ignore), ignored & (nuclei == ''))
    assert canonical.count_nuclei(canonical.read_label_map(paths.label)) == 2
    assert validate_dataset(out) == []


def test_a_box_over_an_outline_hides_no_pixel_of_it(source, tmp_path):
    stem = source.add(
        'TCGA-A1-A0SP-DX1', boxed('macrophage', 4, 4, 12, 9), outlined('lymphocyte', [4, 8, 8, 4], [4, 4, 7, 7])
    )
    paths = canonical.sample_paths(prepare(source, tmp_path / 'out'), stem)
    ignored = canonical.read_ignore(paths.ignore)
    assert not ignored[4:8, 4:9].any()
    assert ignored[4:10, 9:13].all()
    assert (canonical.read_label_map(paths.label)[4:8, 4:9] == 1).all()


@pytest.mark.parametrize('small_first', [True, False])
def test_the_smaller_nucleus_keeps_shared_pixels(source, tmp_path, small_first):
    rows = [outlined('lymphocyte', [6, 9, 9, 6], [6, 6, 9, 9]), outlined('macrophage', [4, 12, 12, 4], [4, 4, 12, 12])]
    stem = source.add('TCGA-A1-A0SP-DX1', *(rows if small_first else rows[::-1]))
    out = prepare(source, tmp_path / 'out')
    types = canonical.read_types(canonical.sample_paths(out, stem).types)
    classes = canonical.read_meta(out)['classes']
    assert np.count_nonzero(types == classes.index('lymphocyte')) == 16
    assert np.count_nonzero(types == classes.index('macrophage')) == 81 - 16


def test_slides_of_one_patient_are_one_group(source, tmp_path):
    stems = [source.add(slide) for slide in ('TCGA-A1-A0SP-DX1', 'TCGA-A1-A0SP-DX20', 'TCGA-OL-A5D6-DX1')]
    images = canonical.read_meta(prepare(source, tmp_path / 'out'))['images']
    assert [images[stem]['group'] for stem in stems] == ['TCGA-A1-A0SP', 'TCGA-A1-A0SP', 'TCGA-OL-A5D6']
    assert {image['mpp'] for image in images.values()} == {0.2}


def test_the_folds_of_the_authors_become_splits(source, tmp_path):
    slides = [f'TCGA-A{number}-A0SP-DX1' for number in range(1, 6)]
    stems = [source.add(slide) for slide in slides]
    source.add_folds(*slides)
    out = prepare(source, tmp_path / 'out')
    assert canonical.list_splits(out) == [f'official-{fold}' for fold in range(1, 6)]
    for fold, stem in enumerate(stems, start=1):
        parts = canonical.read_split(out, f'official-{fold}')
        assert parts == {'train': [other for other in stems if other != stem], 'val': [stem]}


def test_folds_that_lack_their_slides_are_left_out(source, tmp_path):
    source.add('TCGA-A1-A0SP-DX1')
    source.add_folds(*[f'TCGA-A{number}-A0SP-DX1' for number in range(1, 6)])
    assert canonical.list_splits(prepare(source, tmp_path / 'out')) == []


def test_missing_files_and_foreign_names_are_reported_at_once(source, tmp_path):
    no_table, no_mask = source.add('TCGA-A1-A0SP-DX1'), source.add('TCGA-A2-A0SP-DX1')
    (source.root / 'csv' / f'{no_table}.csv').unlink()
    (source.root / 'mask' / f'{no_mask}.png').unlink()
    source.add('slide7')
    source.write('', 'csv', 'alone.csv')
    with pytest.raises(UserError, match='4 bad source files') as caught:
        prepare(source, tmp_path / 'out')
    text = str(caught.value)
    for part in (f'no csv/{no_table}.csv', f'no mask/{no_mask}.png', 'no TCGA barcode', 'no rgb/alone.png'):
        assert part in text
    with pytest.raises(UserError, match='holds no "rgb", "csv" and "mask" side by side'):
        convert(CONVERTERS[0], source.root / 'rgb', tmp_path / 'out')


GOOD = outlined('lymphocyte', [4, 8, 8, 4], [4, 4, 7, 7])


@pytest.mark.parametrize(
    ('row', 'header', 'fault'),
    [
        (outlined('lymphocyte', [4, 8], [4, 4]), HEADER, 'an outline of 2 x and 2 y'),
        ([*GOOD[:8], '4,8,8', '4,4,7,7'], HEADER, 'an outline of 3 x and 4 y'),
        ([*GOOD[:8], '4,8,?', '4,4,7'], HEADER, "'4,8,?' is not a list of numbers"),
        ([*GOOD[:8], '4,8,nan', '4,4,7'], HEADER, 'is not finite'),
        (outlined('alien', [4, 8, 8, 4], [4, 4, 7, 7]), HEADER, "main_classification 'alien'"),
        (GOOD, [*HEADER[:-1], 'ys'], 'no column coords_y'),
        (GOOD[:7], HEADER, 'a row ends early'),
    ],
)
def test_bad_tables_are_explained(source, tmp_path, row, header, fault):
    stem = source.add('TCGA-A1-A0SP-DX1', row, header=header)
    assert_refused(CONVERTERS[0], source.root, tmp_path / 'out', {f'{stem}.csv': fault})


@pytest.mark.parametrize(
    ('mask', 'fault'),
    [
        (np.zeros((*SIZE, 3), np.uint8), 'no pixel is 253'),
        (np.full((20, 23, 3), 253, np.uint8), r'size \(20, 23\) differs'),
    ],
)
def test_bad_masks_are_explained(source, tmp_path, mask, fault):
    source.save(mask, 'mask', source.add('TCGA-A1-A0SP-DX1'))
    with pytest.raises(UserError, match=fault):
        prepare(source, tmp_path / 'out')
