"""Which images are found, and the files that are written of them."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from mmgfnuc.errors import UserError
from mmgfnuc.inference import Nuclei
from mmgfnuc.inference.folder import find_images, segment_images
from mmgfnuc.inference.pixel_size import PixelSize
from mmgfnuc.inference.results import FILES, write_png
from mmgfnuc.visualization.overlay import outline

from .stub import CLASSES, PALETTE, Stub, outputs, read, states, table


@pytest.fixture
def folder(tmp_path):
    for name in ('b.png', 'a.TIF', 'c.jpeg', 'notes.txt', 'deep/d.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(found):
    return [path.name for path in found]


def test_a_file_a_folder_or_a_pattern(folder):
    assert names(find_images([str(folder / 'b.png')])) == ['b.png']
    assert names(find_images([str(folder)])) == ['a.TIF', 'b.png', 'c.jpeg']
    assert names(find_images([str(folder / '*.png')])) == ['b.png']
    assert names(find_images([str(folder / '**' / '*.png')])) == ['b.png', 'd.png']


def test_several_sources_give_each_image_once_and_sorted(folder):
    sources = [str(folder / 'deep'), str(folder / 'c.jpeg'), str(folder / '*.png'), str(folder / 'b.png')]
    assert names(find_images(sources)) == ['b.png', 'c.jpeg', 'd.png']


def test_nothing_found(folder):
    for source in ('none.png', '*.bmp', 'empty'):
        (folder / 'empty').mkdir(exist_ok=True)
        with pytest.raises(UserError, match='names no image'):
            find_images([str(folder / 'b.png'), str(folder / source)])


def test_what_is_skipped_is_counted_and_named(folder, capsys):
    """A named pipe too; hidden files, which macOS puts beside each other file, are not even named."""
    for name in ('slide.ndpi', '._b.png', '.DS_Store', os.fsdecode(b'\xff.txt')):
        (folder / name).touch()
    os.mkfifo(folder / 'pipe.png')
    assert names(find_images([str(folder)])) == ['a.TIF', 'b.png', 'c.jpeg']
    (line,) = capsys.readouterr().out.splitlines()
    assert '5 skipped' in line
    for name in ('slide.ndpi', 'notes.txt', 'pipe.png', 'deep', r'\udcff.txt'):
        assert str(folder / name) in line
    assert names(find_images([str(folder / 'b.png')])) == ['b.png']
    assert capsys.readouterr().out == ''
    for source in ('pipe.png', 'pip*'):
        with pytest.raises(UserError, match='names no image'):
            find_images([str(folder / source)])


def test_a_folder_of_nothing_but_other_files(folder):
    (folder / 'slides').mkdir()
    for number in range(30):
        (folder / 'slides' / f'{number:02}.mrxs').touch()
    with pytest.raises(UserError, match=r'names no image, only .*00\.mrxs, .*19\.mrxs, \.\.\. and 10 more'):
        find_images([str(folder / 'slides')])


def test_two_images_that_would_write_one_mask(folder):
    (folder / 'b.jpg').touch()
    with pytest.raises(UserError, match="1 file names differ only in folder or suffix, such as 'b'; rename them"):
        find_images([str(folder)])
    (folder / 'deep' / 'c.png').touch()
    with pytest.raises(UserError, match="such as 'c'"):
        find_images([str(folder / 'c.jpeg'), str(folder / 'deep')])


def test_every_file_of_a_binary_model(many, tmp_path):
    out = tmp_path / 'out'
    segment_images(Stub(), many, out)
    suffixes = {folder: 'geojson' if folder == 'geojson' else 'png' for folder in FILES}
    assert outputs(out) == {f'{folder}/{name}.{suffixes[folder]}' for folder in FILES for name in 'abcd'}
    tables = {'nuclei.csv', 'images.csv', 'prediction.json'}
    assert {path.name for path in out.iterdir()} == {*FILES, '.records', *tables}
    image = read(many[0])
    labels = Stub()(image, PixelSize(None, 'unknown'), name='a').labels
    assert np.array_equal(read(out / 'labels' / 'a.png'), labels)
    assert np.array_equal(read(out / 'masks' / 'b.png'), np.array([0, 255, 255, 0])[labels])
    assert np.array_equal((read(out / 'overlays' / 'a.png') != image).any(2), outline(labels))
    rows = table(out, 'nuclei.csv')
    assert [(row['image'], row['nucleus'], row['type']) for row in rows] == [
        (image, str(number), 'nucleus' if number < 3 else '') for image in 'abcd' for number in (1, 2, 3)
    ]
    assert {row[name] for row in rows for name in row if '_um' in name} == {''}


def test_a_typed_model_in_micrometres(many, tmp_path):
    segment_images(Stub(3, mpp=0.5), many[:2], tmp_path)
    rows = table(tmp_path, 'nuclei.csv')
    assert [row['type'] for row in rows[:3]] == ['epithelial', 'lymphocyte', '']
    first = rows[0]
    assert list(first) == [
        *('image', 'nucleus', 'type', 'x_px', 'y_px', 'area_px', 'perimeter_px', 'major_axis_px', 'minor_axis_px'),
        *('eccentricity', 'optical_density', 'confidence'),
        *('x_um', 'y_um', 'area_um2', 'perimeter_um', 'major_axis_um', 'minor_axis_um'),
    ]
    values = [float(first[name]) for name in ('x_px', 'y_px', 'area_px', 'x_um', 'y_um', 'area_um2', 'confidence')]
    assert values == [2, 2, 9, 1, 1, 2.25, 0.75]
    assert sorted(np.unique(read(tmp_path / 'masks' / 'a.png'))) == [0, 127, 255]
    assert read(tmp_path / 'overlays' / 'a.png').shape[0] > 20, 'a legend is below'
    features = json.loads((tmp_path / 'geojson' / 'b.geojson').read_text())['features']
    for row, feature in zip(rows[3:], features, strict=True):
        properties = feature['properties']
        assert properties['name'] == row['nucleus']
        assert properties.get('classification', {'name': ''})['name'] == row['type']
        measured = {name: float(value) for name, value in row.items() if name not in ('image', 'nucleus', 'type')}
        assert properties['measurements'] == measured


def test_no_nuclei(many, tmp_path, monkeypatch):
    empty = np.zeros((20, 40), np.int32)
    maps = empty.astype(np.uint8), empty.astype(np.float32)
    monkeypatch.setattr(
        Stub,
        '__call__',
        lambda self, path: Nuclei(empty, np.zeros(0, int), *maps, read(path), CLASSES, PALETTE, 0.5, path.stem),
    )
    segment_images(Stub(3, mpp=0.5), many[:2], tmp_path)
    assert len((tmp_path / 'nuclei.csv').read_text().splitlines()) == 1
    assert states(tmp_path) == {'a': ('done', 0), 'b': ('done', 0)}
    assert json.loads((tmp_path / 'geojson' / 'a.geojson').read_text()) == {'type': 'FeatureCollection', 'features': []}


def hostile_names():
    return ['=cmd()', '-1', 'a,"b"', 'a\nb', os.fsdecode(b'caf\xe9'), 'x' * 245]


def test_hostile_names(tmp_path, capsys):
    source, out = tmp_path / 'in', tmp_path / 'out'
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    for name in hostile_names():
        write_png(source / 'a.png', image)
        (source / 'a.png').rename(source / f'{name}.png')
    with pytest.raises(UserError) as error:
        segment_images(Stub(), find_images([str(source)]), out)
    first, line = str(error.value).splitlines()
    assert first == '1 of 6 images failed:'
    assert line.startswith(str(source / 'x'))
    assert 'cannot be read or written (File name too long)' in line
    text = (out / 'nuclei.csv').read_text(encoding='utf-8')
    done = ["'=cmd()", "'-1", 'a,"b"', r'a\nb', r'caf\udce9']
    assert {row['image'] for row in csv.DictReader(text.splitlines())} == set(done)
    assert states(out) == {**dict.fromkeys(done, ('done', 3)), 'x' * 245: ('failed', None)}
    assert len(outputs(out)) == 5 * len(FILES)
    assert (out / 'labels' / 'a\nb.png').is_file()


def test_links_folders_and_devices_are_not_written_over(many, tmp_path):
    out = tmp_path / 'out'
    (out / 'labels').mkdir(parents=True)
    (out / 'masks').mkdir()
    mine = tmp_path / 'mine.png'
    mine.write_text('mine')
    (out / 'labels' / 'a.png').symlink_to(mine)
    (out / 'masks' / 'b.png').mkdir()
    os.mkfifo(out / 'masks' / 'c.png')
    with pytest.raises(UserError) as error:
        segment_images(Stub(), many, out)
    assert [line.split(' is a folder')[0] for line in str(error.value).splitlines()] == [
        '3 of 4 images failed:',
        *(str(out / name) for name in ('labels/a.png', 'masks/b.png', 'masks/c.png')),
    ]
    assert mine.read_text() == 'mine'
    assert (out / 'labels' / 'a.png').is_symlink()
    assert (out / 'masks' / 'c.png').is_fifo()
    assert {Path(name).stem for name in outputs(out)} == {'d', 'a'}
    (out / 'nuclei.csv').unlink()
    (out / 'nuclei.csv').symlink_to(mine)
    with pytest.raises(UserError, match=r'nuclei\.csv is a folder, a link or a device'):
        segment_images(Stub(), many[3:], out)


def test_the_pixel_size_of_the_file_is_used(many, tmp_path, capsys):
    image = read(many[0])
    for name, unit in (('x', 40_000), ('y', 20_000)):
        path = tmp_path / 'in' / f'{name}.tif'
        tifffile.imwrite(path, image, resolution=(unit, unit), resolutionunit='CENTIMETER')
    tifffile.imwrite(tmp_path / 'in' / 'z.tif', image, description='Aperio |MPP = 40.0')
    images, out = find_images([str(tmp_path / 'in')])[3:], tmp_path / 'out'
    stub = Stub()
    with pytest.raises(UserError, match=r'1 of 4 images failed:\n.*z\.tif.* 40 micrometres'):
        segment_images(stub, images, out)
    assert stub.scales == [None, 0.25, 0.5]
    sizes = [(line['mpp'], line['mpp_from']) for line in table(out, 'images.csv')]
    assert sizes == [('', 'unknown'), ('0.25', 'file'), ('0.5', 'file'), ('', '')]
    areas = {line['image']: line['area_um2'] for line in table(out, 'nuclei.csv') if line['nucleus'] == '1'}
    assert areas == {'d': '', 'x': str(9 * 0.0625), 'y': str(9 * 0.25)}
    stub, given = Stub(mpp=0.5), tmp_path / 'given'
    segment_images(stub, images, given)
    assert stub.scales == [0.5] * 4
    assert {(line['mpp'], line['mpp_from']) for line in table(given, 'images.csv')} == {('0.5', 'given')}


def test_what_must_be_known_is_printed_and_stands_in_the_table(many, tmp_path, capsys):
    segment_images(Stub(notices=('no tissue\n', 'assumed')), many[:2], tmp_path)
    segment_images(Stub(notices=('blurred',)), many, tmp_path)
    warned = {line['image']: line['warnings'] for line in table(tmp_path, 'images.csv')}
    assert warned == {**dict.fromkeys('ab', r'no tissue\n; assumed'), **dict.fromkeys('cd', 'blurred')}
    printed = capsys.readouterr().out.splitlines()
    for line in (r'warning: no tissue\n: a, b', 'warning: assumed: a, b', 'warning: blurred: c, d'):
        assert line in printed[-4:]
