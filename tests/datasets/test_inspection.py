"""The inspection: numbers as computed by hand, each planted fault found with its count, a sound set without any."""

import math
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.inspection import ERROR, REMARK, WARNING, inspect_dataset, report_text
from mmgfnuc.datasets.inspection.measure import measure_nuclei
from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.errors import UserError

from .small_set import GROUPS, SHAPE, TYPED, Dataset, noise, nuclei_of, squares

DIAMETER = 'group with a median nucleus diameter outside 3 to 20 micrometres'


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'tiny')


def the_only_fault(dataset):
    faults = inspect_dataset(dataset.root).faults
    assert len(faults) == 1, faults
    return faults[0]


def test_sound_sets_have_no_fault(dataset, tmp_path):
    report = inspect_dataset(dataset.root)
    assert report.faults == ()
    assert report.sound
    dataset.add_types()
    assert inspect_dataset(dataset.root).faults == ()
    write_dataset(tmp_path / 'synthetic', num_train=6, num_val=2, size=128, seed=0)
    assert inspect_dataset(tmp_path / 'synthetic').faults == ()


def test_numbers_are_those_computed_by_hand(dataset):
    labels = np.zeros(SHAPE, np.int32)
    labels[10:20, 10:20] = 1
    labels[30:35, 10:14] = 2
    labels[50:60, 40:60] = 3  # cut by the edge
    ignore = np.zeros(SHAPE, bool)
    ignore[:6] = True
    dark, bright = np.full((*SHAPE, 3), (10, 20, 30), np.uint8), np.full((*SHAPE, 3), (30, 20, 130), np.uint8)
    for sample_id, image in (('a', dark), ('b', bright)):
        dataset.write(sample_id, image, labels, ignore)
    dataset.change_mpp(a=0.5, b=None)
    liver = inspect_dataset(dataset.root).groups['liver']
    assert (liver.images, liver.nuclei) == (2, 6)
    assert (liver.heights, liver.widths) == ((60, 60, 60), (80, 80, 80))
    assert liver.nuclei_per_image == (3, 3, 3, 3)
    assert liver.nucleus_share == pytest.approx((100 + 20 + 200) / (60 * 80))
    assert liver.ignored_share == pytest.approx(0.1)
    assert liver.mean == pytest.approx((20, 20, 80))
    assert liver.std == pytest.approx((10, 0, 50))
    assert liver.mpp == (None, 0.5)
    small, large = math.sqrt(4 * 20 / math.pi), math.sqrt(4 * 100 / math.pi)
    # Of four values small, small, large, large.
    assert liver.diameter_px == pytest.approx((small, small, (small + large) / 2, large, large))
    # Of two values; image b has no mpp.
    expected = [0.5 * (small + share * (large - small)) for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
    assert liver.diameter_um == pytest.approx(expected)


def test_colours_of_all_images_are_those_of_their_pixels_together(dataset):
    total = inspect_dataset(dataset.root).total
    pixels = np.concatenate([noise(seed).reshape(-1, 3) for seed in range(4)]).astype(float)
    assert total.mean == pytest.approx(pixels.mean(axis=0))
    assert total.std == pytest.approx(pixels.std(axis=0))


def test_images_of_several_sizes(dataset):
    canonical.write_sample(dataset.root, 'a', noise(0)[:30, :50], squares()[:30, :50])
    report = inspect_dataset(dataset.root)
    assert report.total.heights == (30, 60, 60)
    assert report.total.widths == (50, 80, 80)
    assert '30 to 60 (median 60) x 50 to 80 (median 80) pixels' in report_text(report)


def test_numbers_of_each_class(dataset):
    dataset.add_types()
    report = inspect_dataset(dataset.root)
    assert report.classes == tuple(TYPED)
    assert {name: numbers.nuclei for name, numbers in report.types.items()} == {'round': 24, 'flat': 24}
    assert report.types['flat'].diameter_px[2] == pytest.approx(math.sqrt(4 * 64 / math.pi))


def test_nuclei_against_a_map_drawn_by_hand():
    labels = np.array(
        [
            [7, 7, 0, 0, 0, 0],
            [0, 0, 0, 3, 0, 0],
            [0, 0, 0, 0, 3, 0],
            [0, 3, 0, 0, 9, 0],
            [0, 0, 0, 0, 0, 0],
        ],
        np.int32,
    )
    types = np.where(labels == 3, 2, 0).astype(np.uint8)
    types[1, 3] = 1
    nuclei = measure_nuclei(labels, types)
    assert nuclei.ids.tolist() == [3, 7, 9]
    assert nuclei.areas.tolist() == [3, 2, 1]
    assert nuclei.pieces.tolist() == [2, 1, 1]
    assert nuclei.whole.tolist() == [True, False, True]
    assert nuclei.types.tolist() == [2, 0, 0]
    assert nuclei.kinds.tolist() == [2, 1, 1]


def cut_two_nuclei(labels):
    labels[15] = np.where(np.isin(labels[15], (8, 9)), 0, labels[15])


def add_specks(labels):
    """One of 9 pixels, one of 10, and one that the edge cuts."""
    labels[50, 50:59] = 13
    labels[50:52, 10:15] = 14
    labels[59, 30:33] = 15


def flat(*colour):
    """One colour but for the noise of the sensor."""
    return (np.array(colour) + np.random.default_rng(0).integers(-2, 3, (*SHAPE, 3))).astype(np.uint8)


@pytest.mark.parametrize(
    ('plant', 'severity', 'kind', 'cases'),
    [
        (
            lambda d: d.write('b', labels=nuclei_of(cut_two_nuclei)),
            WARNING,
            'nucleus in several pieces',
            ['b: 2 (id 8, 9)'],
        ),
        (lambda d: d.write('b', labels=nuclei_of(add_specks)), WARNING, 'speck below 10 pixels', ['b: 1 (id 13)']),
        (lambda d: d.write('c', labels=squares() * 3), REMARK, None, ['c: 12 nuclei, largest id 36']),
        (
            lambda d: d.write('d', image=flat(90, 40, 60)),
            WARNING,
            'blank image',
            ['d: standard deviation 1.4, 0% white'],
        ),
        (
            # Grey is not white.
            lambda d: d.write('d', image=flat(210, 215, 212)),
            WARNING,
            'blank image',
            ['d: standard deviation 1.4, 0% white'],
        ),
        (
            lambda d: d.write('d', image=flat(250, 250, 250)),
            WARNING,
            'blank image',
            ['d: standard deviation 1.4, 100% white'],
        ),
        (lambda d: d.change_mpp(a=None, d=None), WARNING, 'mpp unknown', ['a', 'd']),
        (lambda d: d.change_mpp(c=0.3, d=0.3), WARNING, DIAMETER, ['lung: median 2.7 micrometres']),
        (lambda d: d.change_mpp(c=2.5, d=2.5), WARNING, DIAMETER, ['lung: median 22.6 micrometres']),
        (lambda d: d.write('b', image=noise(0)), WARNING, 'duplicate image', ['a = b']),
        (
            lambda d: canonical.write_split(d.root, 'organs', {'train': ['a', 'b'], 'val': ['c', 'b']}),
            ERROR,
            'id in several parts',
            ["splits/organs.json: id 'b' stands in train and val"],
        ),
        (
            lambda d: d.write('b', types=np.where(squares() > 0, 1, 0)),
            WARNING,
            'type map of a set without types',
            ['b'],
        ),
    ],
)
def test_a_fault_is_found_with_its_cases(dataset, plant, severity, kind, cases):
    plant(dataset)
    fault = the_only_fault(dataset)
    assert (fault.severity, fault.cases) == (severity, tuple(cases))
    assert kind in (None, fault.kind)
    # Of several nuclei in one image each counts.
    assert fault.count == (2 if kind == 'nucleus in several pieces' else len(cases))
    assert inspect_dataset(dataset.root).sound == (severity != ERROR)


def test_glass_with_a_shred_of_tissue_is_blank(dataset):
    image = np.full((*SHAPE, 3), 240, np.uint8)
    image[:2] = noise(3)[:2]
    dataset.write('d', image=image)
    fault = the_only_fault(dataset)
    assert (fault.kind, fault.count) == ('blank image', 1)
    assert '97% white' in fault.cases[0]


def test_clipped_images(dataset):
    image = noise(3)
    image[:10] = 0
    image[-8:] = 255
    dataset.write('d', image=image)
    fault = the_only_fault(dataset)
    assert (fault.severity, fault.kind, fault.count) == (WARNING, 'clipped image', 1)
    assert fault.cases == ('d: 30% of the values are 0 or 255',)
    image[9] = noise(3)[9]
    image[-8:-4] = noise(3)[-8:-4]
    dataset.write('d', image=image)
    assert inspect_dataset(dataset.root).faults == ()


def test_few_nuclei_say_nothing_of_the_pixel_size(dataset):
    for sample_id in 'cd':
        dataset.write(sample_id, labels=squares(3))
    dataset.change_mpp(c=2.5, d=2.5)
    assert inspect_dataset(dataset.root).faults == ()


def test_image_without_nuclei(dataset):
    dataset.write('a', labels=np.zeros(SHAPE, np.int32))
    fault = the_only_fault(dataset)
    assert (fault.severity, fault.kind, fault.count) == (WARNING, 'image without any nucleus', 1)
    assert fault.cases == ('a',)
    report = inspect_dataset(dataset.root)
    assert report.total.nuclei_per_image == (0, 12, 9, 12)


def test_set_without_nuclei(dataset):
    for sample_id in GROUPS:
        dataset.write(sample_id, labels=np.zeros(SHAPE, np.int32))
    report = inspect_dataset(dataset.root)
    assert [(fault.severity, fault.count) for fault in report.faults] == [(ERROR, 1), (WARNING, 4)]
    assert report.total.diameter_px is None
    assert report.total.nucleus_share == 0
    assert 'all' in report_text(report)


def test_equal_images_in_two_parts_are_a_leak(dataset):
    dataset.write('d', image=noise(0))
    leak, duplicate = inspect_dataset(dataset.root).faults
    assert (leak.severity, leak.kind, leak.count) == (ERROR, 'leak between parts of a split', 1)
    assert leak.cases == ('splits/organs.json: one image stands in several parts: train (a), val (d)',)
    assert duplicate.cases == ('a = d',)


def test_groups_in_two_parts_are_a_leak_unless_meant(dataset):
    canonical.write_split(dataset.root, 'random', {'train': ['a', 'c'], 'val': ['b', 'd']})
    leak = the_only_fault(dataset)
    assert (leak.severity, leak.count) == (ERROR, 2)
    assert leak.cases[0] == "splits/random.json: group 'liver' stands in several parts: train (a), val (b)"
    dataset.change_meta(splits_with_leaks=['random'])
    remark = the_only_fault(dataset)
    assert (remark.severity, remark.count, remark.cases) == (REMARK, 2, leak.cases)


def test_every_split_is_checked_and_counted(dataset):
    path = canonical.write_split(dataset.root, 'broken', {})
    path.write_text('[]')
    report = inspect_dataset(dataset.root)
    assert report.splits == {'organs': {'train': 2, 'val': 2}}
    assert [fault.cases for fault in report.faults] == [('splits/broken.json: holds a list',)]


def test_faults_of_types(dataset):
    dataset.add_types()
    types = np.where(squares() > 6, 2, squares() > 0)
    types[squares() == 3] = 0
    types[squares() == 5] = 0
    types[20:22, :10] = 1  # half of the rows of nucleus 7 end at 20
    types[13, 12:20] = 1  # within nucleus 8
    dataset.write('b', types=types)
    dataset.write('c')
    missing, untyped, several, outside = inspect_dataset(dataset.root).faults
    assert (missing.severity, missing.kind, missing.cases) == (ERROR, 'image without type map', ('c',))
    assert (untyped.severity, untyped.kind, untyped.count) == (WARNING, 'nucleus without type', 2)
    assert untyped.cases == ('b: 2 (id 3, 5)',)
    assert (several.severity, several.kind, several.count) == (WARNING, 'nucleus with several types', 1)
    assert several.cases == ('b: 1 (id 8)',)
    assert (outside.severity, outside.kind, outside.cases) == (WARNING, 'type where no nucleus is', ('b: 20 pixels',))


def test_faults_that_training_refuses_are_errors_and_their_images_not_measured(dataset):
    for sample_id in 'ab':
        (dataset.root / 'labels' / f'{sample_id}.png').unlink()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(dataset.root / 'labels' / 'c.png')
    (dataset.root / 'types').mkdir()
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(dataset.root / 'types' / 'x.png')
    report = inspect_dataset(dataset.root)
    assert {fault.kind: (fault.severity, fault.count, fault.cases) for fault in report.faults} == {
        'map without image': (ERROR, 1, ('types/x.png: types without image',)),
        'image without label': (
            ERROR,
            2,
            ('images/a.png: image without label', 'images/b.png: image without label'),
        ),
        'sizes differ': (ERROR, 1, ('labels/c.png: size 5x5 differs from 60x80 (height x width) of c.png',)),
    }
    assert [image.id for image in report.measured] == ['d']
    assert (report.images, report.total.images) == (4, 1)
    assert 'files of 3 of 4 images' in report_text(report)


def test_without_meta_the_images_are_still_measured(dataset):
    (dataset.root / 'meta.json').unlink()
    report = inspect_dataset(dataset.root)
    assert [fault.cases for fault in report.faults if fault.severity == ERROR] == [('meta.json: missing',)]
    assert (report.name, list(report.groups), report.total.images) == ('tiny', ['(unknown)'], 4)


def test_image_whose_checksums_hold_but_whose_pixels_are_short(dataset):
    def chunk(kind, content):
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    header = struct.pack('>IIBBBBB', SHAPE[1], SHAPE[0], 8, 2, 0, 0, 0)
    chunks = [(b'IHDR', header), (b'IDAT', zlib.compress(bytes(1000))), (b'IEND', b'')]
    (dataset.root / 'images' / 'a.png').write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*each) for each in chunks))
    fault = the_only_fault(dataset)
    assert (fault.severity, fault.kind, fault.count) == (ERROR, 'unusable file', 1)
    assert fault.cases[0].startswith('images/a.png: unreadable')


def test_set_without_images(dataset):
    for folder in ('images', 'labels'):
        for path in (dataset.root / folder).iterdir():
            path.unlink()
    (dataset.root / 'splits' / 'organs.json').unlink()
    report = inspect_dataset(dataset.root)
    assert [(fault.severity, fault.kind) for fault in report.faults] == [(ERROR, 'empty set')]
    assert (report.images, report.total) == (0, None)
    assert '1 error' in report_text(report)


def test_folder_that_is_no_dataset(tmp_path):
    with pytest.raises(UserError, match='holds no dataset'):
        inspect_dataset(tmp_path)


def test_what_the_validator_warns_of_is_a_warning_and_measured(dataset):
    labels = np.zeros(SHAPE, np.int32)
    labels[:50] = 1
    dataset.write('b', labels=labels)
    report = inspect_dataset(dataset.root)
    assert report.sound
    assert {fault.kind: fault.severity for fault in report.faults} == {'foreground above half of the image': WARNING}
    assert len(report.measured) == 4
    text = report_text(report)
    assert 'labels/b.png: nuclei cover 83%' in text
    assert '--invert' in text
