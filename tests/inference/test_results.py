import csv
import itertools
import json
import os

import numpy as np
import pytest
from PIL import Image

from mmgfnuc.datasets.canonical import read_label_map
from mmgfnuc.errors import UserError
from mmgfnuc.inference.results import (
    FOLDER,
    NUCLEI_HEADER,
    Record,
    Records,
    printable,
    write_label_map,
    write_mask,
    write_png,
)

NUCLEUS = [1, 'round', *range(len(NUCLEI_HEADER) - 3)]


def add(records, name):
    records.add(Record(name, f'/{name}.png', 1, 0.5), [[name, *NUCLEUS]])


def images_of(out, table='nuclei.csv'):
    with (out / table).open(encoding='utf-8') as file:
        return [line['image'] for line in csv.DictReader(file)]


def test_tables_are_made_of_the_records_that_are_there(tmp_path):
    records = Records(tmp_path)
    for name in ('b', 'a'):
        add(records, name)
    records.add(Record('c', '/c.png', 0, None, 'too large'))
    records.add(Record('d', '/d.png', 0, None))
    Records(tmp_path).write_tables()
    assert images_of(tmp_path) == ['a', 'b']
    assert (tmp_path / 'images.csv').read_text().splitlines() == [
        'image,state,nuclei,mpp,reason,file',
        'a,done,1,0.5,,/a.png',
        'b,done,1,0.5,,/b.png',
        'c,failed,,,too large,/c.png',
        'd,done,0,,,/d.png',
    ]
    for name in ('a', 'nowhere'):
        records.forget(name)
    records.write_tables()
    assert images_of(tmp_path) == ['b']


@pytest.mark.parametrize(
    'change',
    [dict(other=1), dict(image='another'), dict(image=5), '[]', '{"image": ', '[' * 100_000, '\udcff'],
)
def test_a_damaged_record_gives_one_line(tmp_path, change):
    records = Records(tmp_path)
    add(records, 'a')
    (path,) = (tmp_path / FOLDER).glob('*.json')
    text = change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
    path.write_bytes(text.encode(errors='surrogateescape'))
    with pytest.raises(UserError) as error:
        Records(tmp_path)
    assert str(error.value).startswith(str(path))
    assert 'delete it' in str(error.value)


@pytest.mark.parametrize('content', [None, b'', b'image,nucleus,area\na,1,5\n'])
def test_lines_of_another_table_give_one_line(tmp_path, content):
    records = Records(tmp_path)
    add(records, 'a')
    records.write_tables()
    (path,) = (tmp_path / FOLDER).glob('*.csv')
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match='damaged or has other columns'):
        records.write_tables()
    assert images_of(tmp_path) == images_of(tmp_path, 'images.csv') == ['a']


def batches(records, names, seconds_per_table, seconds_per_image, monkeypatch):
    """Numbers of images between two tables."""
    now, sizes = 0.0, []

    def write_tables():
        nonlocal now
        now += seconds_per_table
        sizes.append(0)

    monkeypatch.setattr('time.perf_counter', lambda: now)
    monkeypatch.setattr(records, 'write_tables', write_tables)
    for _ in records.in_batches(names):
        now += seconds_per_image
        sizes[-1] += 1
    return sizes


def test_tables_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    records, names = Records(tmp_path), [str(number) for number in range(100)]
    assert batches(records, names, 0.05, 1, monkeypatch) == [1] * 100
    assert batches(records, names, 1, 1, monkeypatch) == [1, 2, 4, 8, 16, 8, 16, 8, 16, 8, 13]
    assert sum(batches(records, names, 1, 0, monkeypatch)) == 100


def test_a_batch_has_no_lines_of_an_earlier_run(tmp_path):
    records = Records(tmp_path)
    for name in 'abc':
        add(records, name)
    assert list(itertools.islice(records.in_batches(['b', 'c']), 1)) == ['b']
    assert images_of(tmp_path) == images_of(tmp_path, 'images.csv') == ['a', 'c']


def test_images_that_a_run_did_not_come_to_keep_their_lines(tmp_path, monkeypatch):
    records, names = Records(tmp_path), ['a', 'b', 'c', 'd']
    for name in names:
        add(records, name)
    # Tables take so long that the second batch is of two images.
    monkeypatch.setattr('time.perf_counter', itertools.count().__next__)
    iterator = records.in_batches(names)
    assert [next(iterator), next(iterator)] == ['a', 'b']
    assert images_of(tmp_path) == ['d']
    assert {record.image for record in Records(tmp_path).all.values()} == {'c', 'd'}, 'after a kill'
    iterator.close()
    records.write_tables()
    assert images_of(tmp_path) == images_of(tmp_path, 'images.csv') == ['c', 'd']


def test_masks_are_visible_grey_levels(tmp_path):
    write_mask(tmp_path / 'deep' / 'two.png', np.array([[0, 1]], np.uint8))
    assert np.array(Image.open(tmp_path / 'deep' / 'two.png')).tolist() == [[0, 255]]
    write_mask(tmp_path / 'four.png', np.array([[0, 1, 2, 3]], np.uint8), num_classes=4)
    assert np.array(Image.open(tmp_path / 'four.png')).tolist() == [[0, 85, 170, 255]]


def test_pictures_keep_their_colours(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_png(tmp_path / 'a.png', picture)
    assert np.array_equal(np.array(Image.open(tmp_path / 'a.png')), picture)


def test_label_maps_are_those_of_the_canonical_form(tmp_path):
    for largest, suffix, kind in ((65_535, 'png', np.uint16), (65_536, 'tif', np.int32)):
        labels = np.array([[0, 1], [300, largest]], np.int32)
        write_label_map(tmp_path, 'a', labels)
        # The file of the other kind, of the run before, is gone.
        assert [path.name for path in tmp_path.iterdir()] == [f'a.{suffix}']
        assert np.array_equal(read_label_map(tmp_path / f'a.{suffix}'), labels)
        assert np.array(Image.open(tmp_path / f'a.{suffix}')).dtype == kind
    write_label_map(tmp_path, 'a', np.zeros((2, 3), np.int32))
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_names_that_nothing_can_show():
    assert printable('a\nb\x1b[2J\u2028') == r'a\nb\x1b[2J\u2028'
    assert printable(os.fsdecode(b'caf\xe9')) == r'caf\udce9'
    for name in ('Zürich', 'क्षेत्र', 'Bild\u202f1', '=cmd()'):
        assert printable(name) == name
