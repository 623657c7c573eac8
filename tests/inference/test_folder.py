import csv
import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from mmgfnuc.datasets import limits
from mmgfnuc.datasets.canonical import read_label_map
from mmgfnuc.datasets.drawing import outline
from mmgfnuc.errors import UserError
from mmgfnuc.files import DiskFullError
from mmgfnuc.inference import Prediction
from mmgfnuc.inference.folder import FILES, find_images, segment_images
from mmgfnuc.inference.writers import write_png


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
    (folder / 'slide.ndpi').touch()
    os.mkfifo(folder / 'pipe.png')
    (folder / os.fsdecode(b'\xff.txt')).touch()
    assert names(find_images([str(folder)])) == ['a.TIF', 'b.png', 'c.jpeg']
    (line,) = capsys.readouterr().out.splitlines()
    assert '5 skipped' in line
    for name in ('slide.ndpi', 'notes.txt', 'pipe.png', 'deep', r'\udcff.txt'):
        assert str(folder / name) in line
    assert names(find_images([str(folder / 'b.png')])) == ['b.png']
    assert capsys.readouterr().out == ''


def test_hidden_files_are_neither_images_nor_named(folder, capsys):
    (folder / '._b.png').touch()
    (folder / '.DS_Store').touch()
    (folder / 'notes.txt').unlink()
    (folder / 'deep' / 'd.png').rename(folder / 'd.png')
    (folder / 'deep').rmdir()
    assert names(find_images([str(folder)])) == ['a.TIF', 'b.png', 'c.jpeg', 'd.png']
    assert capsys.readouterr().out == ''


def test_a_folder_of_nothing_but_other_files(folder):
    (folder / 'slides').mkdir()
    for number in range(30):
        (folder / 'slides' / f'{number:02}.mrxs').touch()
    with pytest.raises(UserError, match=r'names no image, only .*00\.mrxs, .*19\.mrxs, \.\.\. and 10 more'):
        find_images([str(folder / 'slides')])


def test_a_named_pipe_is_no_image(folder):
    os.mkfifo(folder / 'pipe.png')
    for source in ('pipe.png', 'pip*'):
        with pytest.raises(UserError, match='names no image'):
            find_images([str(folder / source)])


def test_two_images_that_would_write_one_mask(folder):
    (folder / 'b.jpg').touch()
    with pytest.raises(UserError, match="1 file names differ only in folder or suffix, such as 'b'; rename them"):
        find_images([str(folder)])
    (folder / 'deep' / 'c.png').touch()
    with pytest.raises(UserError, match="such as 'c'"):
        find_images([str(folder / 'c.jpeg'), str(folder / 'deep')])


class Stub:
    """Finds in every image three nuclei: two that touch, of types 1 and 2, and one of no type.

    Args:
        shift: moves the nuclei: another model.
        errors: raised, by the number of the prediction, from 0.
    """

    mpp = 0.5
    device = torch.device('cpu')
    classes = ('background', 'epithelial', 'lymphocyte')
    palette = ((0, 0, 0), (0, 158, 115), (230, 159, 0))

    def __init__(self, num_classes, shift=0, errors=None):
        self.num_classes = num_classes
        self.classes = ('background', 'nucleus') if num_classes == 2 else self.classes
        self.shift, self.errors, self.scales = shift, errors or {}, []

    def predict(self, image, mpp):
        self.scales.append(mpp)
        if len(self.scales) - 1 in self.errors:
            raise self.errors[len(self.scales) - 1]
        labels = np.zeros(image.shape[:2], np.int32)
        labels[1:4, 1:4], labels[1:4, 4:8], labels[6:9, 1:9] = 1, 2, 3
        labels = np.roll(labels, self.shift, axis=1)
        types = np.array([0, 1, self.num_classes - 1, 0], np.uint8)
        return Prediction(types[labels], labels, (labels > 0) * np.float32(0.75))


@pytest.fixture
def scans(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    for name in ('a', 'b'):
        write_png(tmp_path / 'in' / f'{name}.png', image)
    return find_images([str(tmp_path / 'in')]), image


def segmented(scans, out, num_classes, mpp):
    stub = Stub(num_classes)
    segment_images(stub, scans[0], out, mpp)
    assert stub.scales == [mpp, mpp]
    return table(out, 'nuclei.csv')


def table(out, name):
    with (out / name).open(encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def states(out):
    """State of each image, and its number of nuclei where it has one."""
    lines = table(out, 'images.csv')
    return {line['image']: (line['state'], int(line['nuclei']) if line['nuclei'] else None) for line in lines}


def outputs(out):
    """Everything but the tables and what they are made of."""
    return {str(path.relative_to(out)) for path in out.rglob('*') if path.is_file() and path.parent.name in FILES}


def assert_consistent(out):
    """Tables agree with each other and with the files; nothing is half-written. Gives the images that are done."""
    nuclei = table(out, 'nuclei.csv')
    if (out / 'images.csv').exists():
        counts = Counter(line['image'] for line in nuclei)
        assert all(counts[name] == (number or 0) for name, (_, number) in states(out).items())
        assert counts.keys() <= states(out).keys()
    for name in {line['image'] for line in nuclei}:
        areas = [int(line['area_px']) for line in nuclei if line['image'] == name]
        places = [float(line['x_px']) for line in nuclei if line['image'] == name]
        labels = read_label_map(out / 'labels' / f'{name}.png')
        assert np.bincount(labels.ravel())[1:].tolist() == areas
        assert np.array_equal(read(out / 'masks' / f'{name}.png') > 0, np.isin(labels, (1, 2)))
        assert [np.nonzero(labels == number)[1].mean() for number in (1, 2, 3)] == places
        features = json.loads((out / 'geojson' / f'{name}.geojson').read_text())['features']
        assert [feature['properties']['measurements']['x_px'] for feature in features] == places
        assert read(out / 'overlays' / f'{name}.png').shape == (20, 40, 3)
    return {line['image'] for line in nuclei}


def read(path):
    return np.array(Image.open(path))


def test_every_file_of_a_binary_model(scans, tmp_path):
    out = tmp_path / 'out'
    rows = segmented(scans, out, 2, mpp=None)
    suffixes = {folder: 'geojson' if folder == 'geojson' else 'png' for folder in FILES}
    assert outputs(out) == {f'{folder}/{name}.{suffixes[folder]}' for folder in FILES for name in 'ab'}
    assert {path.name for path in out.iterdir()} == {*FILES, '.records', 'nuclei.csv', 'images.csv'}
    labels = Stub(2).predict(scans[1], None).labels
    assert np.array_equal(read(out / 'labels' / 'a.png'), labels)
    assert np.array_equal(read(out / 'masks' / 'b.png'), np.array([0, 255, 255, 0])[labels])
    picture = read(out / 'overlays' / 'a.png')
    assert np.array_equal((picture != scans[1]).any(2), outline(labels))
    assert [(row['image'], row['nucleus'], row['type']) for row in rows] == [
        (image, str(number), 'nucleus' if number < 3 else '') for image in 'ab' for number in (1, 2, 3)
    ]
    assert {row[name] for row in rows for name in row if '_um' in name} == {''}


def test_a_typed_model_in_micrometres(scans, tmp_path):
    rows = segmented(scans, tmp_path, 3, mpp=0.5)
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


def test_geojson_and_table_agree(scans, tmp_path):
    rows = segmented(scans, tmp_path, 3, mpp=0.5)
    features = json.loads((tmp_path / 'geojson' / 'b.geojson').read_text())['features']
    for row, feature in zip(rows[3:], features, strict=True):
        properties = feature['properties']
        assert properties['name'] == row['nucleus']
        assert properties.get('classification', {'name': ''})['name'] == row['type']
        measured = {name: float(value) for name, value in row.items() if name not in ('image', 'nucleus', 'type')}
        assert properties['measurements'] == measured


def test_no_nuclei(scans, tmp_path):
    stub = Stub(3)
    empty = np.zeros((20, 40), np.int32)
    stub.predict = lambda image, mpp: Prediction(empty.astype(np.uint8), empty, empty.astype(np.float32))
    segment_images(stub, scans[0], tmp_path, 0.5)
    assert len((tmp_path / 'nuclei.csv').read_text().splitlines()) == 1
    assert states(tmp_path) == {'a': ('done', 0), 'b': ('done', 0)}
    assert json.loads((tmp_path / 'geojson' / 'a.geojson').read_text()) == {'type': 'FeatureCollection', 'features': []}


@pytest.fixture
def many(tmp_path):
    """Four images of one content."""
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    for name in 'abcd':
        write_png(tmp_path / 'in' / f'{name}.png', image)
    return find_images([str(tmp_path / 'in')])


TOO_LITTLE_MEMORY = (
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB.'),
)


def test_too_little_memory_is_the_failure_of_that_image(many, tmp_path):
    out = tmp_path / 'out'
    stub = Stub(2, errors=dict(enumerate(TOO_LITTLE_MEMORY)))
    with pytest.raises(UserError) as error:
        segment_images(stub, many, out, None)
    first, *lines = str(error.value).splitlines()
    assert first == '3 of 4 images failed:'
    assert [line.split(': too little memory')[0] for line in lines] == [str(path) for path in many[:3]]
    assert states(out) == {'a': ('failed', None), 'b': ('failed', None), 'c': ('failed', None), 'd': ('done', 3)}
    assert [line['reason'] for line in table(out, 'images.csv')] == [*lines, '']
    assert_consistent(out)
    assert {Path(name).stem for name in outputs(out)} == {'d'}


def test_an_image_that_cannot_be_predicted_in_the_free_memory_is_not_begun(many, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, 'SMALL', 0)
    # Enough to read one.
    monkeypatch.setattr(limits, 'free_memory', lambda: 50 * 20 * 40)
    stub = Stub(2)
    with pytest.raises(UserError, match=r'a\.png: .* GB of memory to be predicted'):
        segment_images(stub, many, tmp_path / 'out', None)
    assert stub.scales == []
    assert set(states(tmp_path / 'out').values()) == {('failed', None)}


@pytest.mark.parametrize('error', [KeyboardInterrupt(), SystemExit(143), RuntimeError('illegal memory access')])
def test_tables_are_complete_however_the_run_ends(many, tmp_path, capsys, error):
    out = tmp_path / 'out'
    with pytest.raises(type(error)):
        segment_images(Stub(2, errors={2: error}), many, out, None)
    assert states(out) == {'a': ('done', 3), 'b': ('done', 3)}
    assert assert_consistent(out) == {'a', 'b'}
    assert '2 of 4 images, 6 nuclei' in capsys.readouterr().out


def test_a_second_run_keeps_the_results_of_other_images(many, tmp_path, capsys):
    out = tmp_path / 'out'
    segment_images(Stub(2), many[:2], out, None)
    assert 'notice: ' not in capsys.readouterr().out.replace('notice: the size of a pixel', '')
    before = [line for line in table(out, 'nuclei.csv') if line['image'] == 'a']
    segment_images(Stub(2, shift=5), many[1:], out, None)
    assert '1 of 3 images have results of an earlier run' in capsys.readouterr().out
    assert assert_consistent(out) == set('abcd')
    assert [line for line in table(out, 'nuclei.csv') if line['image'] == 'a'] == before
    assert {line['x_px'] for line in table(out, 'nuclei.csv') if line['image'] == 'b'} == {'7.0', '10.5', '9.5'}


def test_another_image_of_the_same_name_is_pointed_out(many, tmp_path, capsys):
    (tmp_path / 'other').mkdir()
    other = tmp_path / 'other' / 'a.png'
    other.write_bytes(many[0].read_bytes())
    for path in (many[0], other):
        segment_images(Stub(2), [path], tmp_path / 'out', None)
    assert f'warning: 1 of these are of another file of that name: {many[0]} by {other}' in capsys.readouterr().out


def test_an_image_that_fails_has_no_results_of_before(many, tmp_path):
    out = tmp_path / 'out'
    segment_images(Stub(2), many, out, None)
    with pytest.raises(UserError, match='1 of 1 images failed'):
        segment_images(Stub(2, errors={0: MemoryError()}), many[1:2], out, None)
    assert states(out)['b'] == ('failed', None)
    assert assert_consistent(out) == set('acd')
    assert {Path(name).stem for name in outputs(out)} == set('acd')


def test_the_table_of_another_program_is_not_written_over(many, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'nuclei.csv').write_text('mine')
    with pytest.raises(UserError, match=r'nuclei\.csv is not of this version'):
        segment_images(Stub(2), many, out, None)
    assert (out / 'nuclei.csv').read_text() == 'mine'


def test_the_labels_of_a_dataset_are_not_written_over(many, tmp_path):
    (tmp_path / 'meta.json').write_text('{}')
    with pytest.raises(UserError, match='holds a dataset'):
        segment_images(Stub(2), many, tmp_path, None)


def test_one_writer_at_a_time(many, tmp_path, locked):
    with locked(tmp_path / 'out'), pytest.raises(UserError, match='another process is writing'):
        segment_images(Stub(2), many, tmp_path / 'out', None)
    assert not (tmp_path / 'out').exists()


def disk_that_is_full(patch, name):
    """Let no file of that name be written."""
    replace = Path.replace

    def refuse(self, target):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, 'No space left on device', str(self))
        return replace(self, target)

    patch.setattr(Path, 'replace', refuse)


RECORD_OF_C = f'{hashlib.sha256(b"c").hexdigest()[:32]}.json'


@pytest.mark.parametrize('name', ['c.png', 'c.geojson', RECORD_OF_C, 'nuclei.csv'])
def test_a_full_disk_ends_the_run_and_the_next_one_continues(many, tmp_path, monkeypatch, name):
    out = tmp_path / 'out'
    segment_images(Stub(2), many[:2], out, None)
    with monkeypatch.context() as patch:
        disk_that_is_full(patch, name)
        with pytest.raises(DiskFullError) as error:
            segment_images(Stub(2, shift=5), many[1:], out, None)
    assert f'{name} cannot be written: the disk has' in str(error.value)
    assert '\n' not in str(error.value)
    assert assert_consistent(out) >= {'a'}
    assert name == 'nuclei.csv' or {Path(file).stem for file in outputs(out)} == {'a', 'b'}
    segment_images(Stub(2, shift=5), many[1:], out, None)
    assert assert_consistent(out) == set('abcd')
    assert not [path for path in out.rglob('.*') if path.name != '.records']


def hostile_names():
    return ['=cmd()', '-1', 'a,"b"', 'a\nb', os.fsdecode(b'caf\xe9'), 'x' * 245]


def test_hostile_names(tmp_path, capsys):
    source, out = tmp_path / 'in', tmp_path / 'out'
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    for name in hostile_names():
        write_png(source / 'a.png', image)
        (source / 'a.png').rename(source / f'{name}.png')
    with pytest.raises(UserError) as error:
        segment_images(Stub(2), find_images([str(source)]), out, None)
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
        segment_images(Stub(2), many, out, None)
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
        segment_images(Stub(2), many[3:], out, None)


def test_the_pixel_size_of_the_file_is_used(many, tmp_path, capsys):
    image = read(many[0])
    for name, unit in (('x', 40_000), ('y', 20_000)):
        path = tmp_path / 'in' / f'{name}.tif'
        tifffile.imwrite(path, image, resolution=(unit, unit), resolutionunit='CENTIMETER')
    tifffile.imwrite(tmp_path / 'in' / 'z.tif', image, description='Aperio |MPP = 40.0')
    images, out = find_images([str(tmp_path / 'in')])[3:], tmp_path / 'out'
    stub = Stub(2)
    with pytest.raises(UserError, match=r'1 of 4 images failed:\n.*z\.tif.* 40 micrometres'):
        segment_images(stub, images, out, None)
    assert stub.scales == [None, 0.25, 0.5]
    assert [line['mpp'] for line in table(out, 'images.csv')] == ['', '0.25', '0.5', '']
    areas = {line['image']: line['area_um2'] for line in table(out, 'nuclei.csv') if line['nucleus'] == '1'}
    assert areas == {'d': '', 'x': str(9 * 0.0625), 'y': str(9 * 0.25)}
    segment_images(stub, images, out, 0.5)
    assert stub.scales[3:] == [0.5] * 4
    assert {line['mpp'] for line in table(out, 'images.csv')} == {'0.5'}


def killed_at(number, run):
    """Run in a child that dies, without a word, at a change of the file system; tell whether it came so far."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = number

    def dying(change):
        def count(*args, **kwargs):
            nonlocal left
            if not left:
                os._exit(9)
            left -= 1
            return change(*args, **kwargs)

        return count

    code = 1
    try:
        for change in ('replace', 'unlink', 'mkdir'):
            setattr(Path, change, dying(getattr(Path, change)))
        run()
        code = 0
    finally:
        os._exit(code)


def test_a_kill_leaves_no_table_of_another_prediction(many, tmp_path):
    """At every thirteenth change of the file system, while the results of another model are replaced."""
    out = tmp_path / 'out'
    for number in range(0, 1000, 13):
        shutil.rmtree(out, ignore_errors=True)
        segment_images(Stub(2), many[:3], out, None)
        if not killed_at(number, lambda: segment_images(Stub(2, shift=5), many[1:], out, None)):
            break
        assert assert_consistent(out) >= {'a'}
        segment_images(Stub(2, shift=5), many[1:], out, None)
        assert assert_consistent(out) == set('abcd')
        assert states(out) == dict.fromkeys('abcd', ('done', 3))
        assert not [path for path in out.rglob('.*') if path.name != '.records']
    assert number > 50, number
