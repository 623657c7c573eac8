"""Records of images, and the tables that are made of them."""

import csv
import json

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.inference.records import Record, Records
from mmgfnuc.inference.results import FOLDER, NUCLEI_HEADER

NUCLEUS = [1, 'round', *range(len(NUCLEI_HEADER) - 3)]
STUB = {'model': 'stub'}


def records_of(out, **settings):
    return Records(out, STUB | settings)


def add(records, name):
    records.add(
        Record(name, f'/{name}.png', 'ab12', nuclei=1, mpp=0.5, warnings=['too pale', 'a photograph']),
        [[name, *NUCLEUS]],
    )


def images_of(out, table='nuclei.csv'):
    with (out / table).open(encoding='utf-8') as file:
        return [line['image'] for line in csv.DictReader(file)]


def test_tables_are_made_of_the_records_that_are_there(tmp_path):
    records = records_of(tmp_path)
    for name in ('b', 'a'):
        add(records, name)
    records.add(Record('c', '/c.png', 'ab12', 'too large'))
    records.add(Record('d', '/d\n.png', 'ab12', nuclei=0, tissue_share=0.0, seconds=0.5))
    records = records_of(tmp_path)
    assert images_of(tmp_path) == ['a', 'b']
    assert (tmp_path / 'images.csv').read_text().splitlines() == [
        'image,state,nuclei,per_mm2,median_area_px,median_area_um2,tissue_share,seconds,mpp,mpp_from,warnings,reason,file',
        'a,done,1,,,,,,0.5,,too pale; a photograph,,/a.png',
        'b,done,1,,,,,,0.5,,too pale; a photograph,,/b.png',
        'c,failed,,,,,,,,,,too large,/c.png',
        'd,done,0,,,,0.0,0.5,,,,,/d\\n.png',
    ]
    records.remove(['a'])
    assert images_of(tmp_path) == ['b']
    assert images_of(tmp_path, 'images.csv') == ['b', 'c', 'd']
    assert len(list((tmp_path / FOLDER).iterdir())) == 5


@pytest.mark.parametrize(
    'change',
    [dict(other=1), dict(image='another'), dict(image=5), dict(file=5), '[]', '{"image": ', '[' * 100_000, '\udcff'],
)
def test_a_damaged_record_gives_one_line(tmp_path, change):
    add(records_of(tmp_path), 'a')
    (path,) = (tmp_path / FOLDER).glob('*.json')
    text = change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
    path.write_bytes(text.encode(errors='surrogateescape'))
    with pytest.raises(UserError) as error:
        records_of(tmp_path)
    assert str(error.value).startswith(str(path))
    assert 'delete it' in str(error.value)


@pytest.mark.parametrize('content', [None, b'', b'image,nucleus,area\na,1,5\n'])
def test_lines_of_another_table_give_one_line(tmp_path, content):
    records = records_of(tmp_path)
    add(records, 'a')
    records.write_tables()
    (path,) = (tmp_path / FOLDER).glob('*.csv')
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match='damaged or has other columns'):
        records.write_tables()
    assert images_of(tmp_path) == images_of(tmp_path, 'images.csv') == ['a']


@pytest.mark.parametrize('content', [None, '[]', '{', '{"model": 5}'])
def test_results_whose_model_is_not_known_are_not_continued(tmp_path, content):
    add(records_of(tmp_path), 'a')
    path = tmp_path / 'prediction.json'
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=r'prediction\.json .*; name another --out, or start anew with --overwrite'):
        records_of(tmp_path)
    Records(tmp_path, STUB, overwrite=True)
    assert images_of(tmp_path) == []


def test_what_is_compared_is_all_but_the_name_of_the_model(tmp_path):
    config = {'decode_head': {'share': 0.5, 'classes': ['a', 'b']}, 'tile': None}
    add(records_of(tmp_path, config=config), 'a')
    Records(tmp_path, {'model': 'another name', 'config': config})
    with pytest.raises(UserError) as error:
        records_of(tmp_path, config={'decode_head': {'share': 0.6, 'classes': ['a', 'b']}}, version='0.2.0')
    said = "config.decode_head.share was 0.5, is 0.6, version was None, is '0.2.0'"
    assert said in str(error.value)


def images_between_tables(records, number, seconds_per_table, seconds_per_image, monkeypatch):
    now, sizes = 0.0, [0]

    def write_tables():
        nonlocal now
        now += seconds_per_table
        records.written, records.seconds = now, seconds_per_table
        sizes.append(0)

    monkeypatch.setattr('time.perf_counter', lambda: now)
    monkeypatch.setattr(records, 'write_tables', write_tables)
    write_tables()
    for _ in range(number):
        now += seconds_per_image
        sizes[-1] += 1
        records.write_tables_in_time()
    return sizes[1:-1]


def test_tables_grow_with_the_images_and_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    records = records_of(tmp_path)
    assert images_between_tables(records, 100, 0.05, 1, monkeypatch) == [1] * 100
    assert images_between_tables(records, 100, 2, 1, monkeypatch) == [20] * 5
