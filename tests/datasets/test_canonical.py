"""The canonical form: what is written is read back exactly, and what cannot be read is named."""

import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.errors import UserError

META = {
    'name': 'tiny',
    'classes': canonical.CLASSES,
    'licence': 'CC0',
    'citation': 'none',
    'source': 'test',
    'images': {'a': {'group': 'slide 1', 'mpp': None}, 'b': {'group': 'slide 2', 'mpp': 0.25}},
}


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def labels_up_to(largest):
    labels = np.zeros((6, 9), np.int32)
    labels[1:3, 1:4] = 7
    labels[4, 5:] = largest
    return labels


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(('largest', 'file'), [(65535, 'a.png'), (65536, 'a.tif')])
def test_sample_comes_back_exactly_and_in_the_format_its_ids_need(tmp_path, image, largest, file):
    labels = labels_up_to(largest)
    canonical.write_sample(tmp_path, 'a', image, labels, labels == 7)
    paths = canonical.sample_paths(tmp_path, 'a')
    assert paths.label == tmp_path / 'labels' / file
    read = canonical.read_label_map(paths.label)
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels)
    np.testing.assert_array_equal(canonical.read_image(paths.image), image)
    ignore = canonical.read_ignore(paths.ignore)
    assert ignore.dtype == bool
    np.testing.assert_array_equal(ignore, labels == 7)


def test_files_are_plain_ones_that_another_library_reads(tmp_path, image):
    labels = labels_up_to(40000)
    canonical.write_sample(tmp_path, 'a', image, labels)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'images/a.png'))[..., ::-1], image)
    read = cv2.imread(str(tmp_path / 'labels/a.png'), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, labels)


def test_writing_a_sample_again_leaves_nothing_of_the_earlier_one(tmp_path, image):
    canonical.write_sample(tmp_path, 'a', image, labels_up_to(70000), np.ones((6, 9), bool))
    canonical.write_sample(tmp_path, 'a', image, labels_up_to(8))
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*') if path.is_file())
    assert files == ['images/a.png', 'labels/a.png']
    assert canonical.sample_paths(tmp_path, 'a').ignore is None


def test_ids_are_sorted_and_keep_their_dots(tmp_path, image):
    for sample_id in ('b', 'a.1', 'a'):
        canonical.write_sample(tmp_path, sample_id, image, labels_up_to(8))
    assert canonical.list_ids(tmp_path) == ['a', 'a.1', 'b']
    assert canonical.sample_paths(tmp_path, 'a.1').label.exists()


def test_interrupted_write_leaves_the_earlier_file_and_no_new_id(tmp_path, image, monkeypatch):
    canonical.write_sample(tmp_path, 'a', image, labels_up_to(8))

    def fail_half_way(self, content):
        with self.open('wb') as file:
            file.write(content[: len(content) // 2])
        raise OSError('disk full')

    monkeypatch.setattr(Path, 'write_bytes', fail_half_way)
    for sample_id in ('a', 'b'):
        with pytest.raises(OSError, match='disk full'):
            canonical.write_sample(tmp_path, sample_id, image, labels_up_to(9))
    assert canonical.list_ids(tmp_path) == ['a']
    np.testing.assert_array_equal(canonical.read_label_map(tmp_path / 'labels/a.png'), labels_up_to(8))


@pytest.mark.parametrize('file', ['image.png', 'image.jpg'])
@pytest.mark.parametrize('read', [canonical.read_image, canonical.check_image])
def test_truncated_image_is_refused(tmp_path, image, file, read):
    path = tmp_path / file
    Image.fromarray(image).save(path)
    read(path)
    truncate(path)
    with pytest.raises(UserError, match=f'{file}: unreadable'):
        read(path)


def test_check_image_finds_a_flipped_byte_and_gives_height_and_width(tmp_path, image):
    path = tmp_path / 'image.png'
    Image.fromarray(image).save(path)
    assert canonical.check_image(path) == (6, 9)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(UserError, match='unreadable'):
        canonical.check_image(path)


@pytest.mark.parametrize('file', ['label.png', 'label.tif'])
def test_truncated_missing_and_garbage_label_maps_are_refused(tmp_path, file):
    path = tmp_path / file
    with pytest.raises(UserError, match=f'{file}: missing'):
        canonical.read_label_map(path)
    path.write_bytes(b'no image at all')
    with pytest.raises(UserError, match='unreadable'):
        canonical.read_label_map(path)
    labels = np.random.default_rng(0).integers(0, 900, (64, 64)).astype(np.uint16)
    if path.suffix == '.png':
        Image.fromarray(labels).save(path)
    else:
        tifffile.imwrite(path, labels, compression='zlib')
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match='unreadable'):
        canonical.read_label_map(path)


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (np.full((6, 9), 0.5, np.float32), r'0\.5, no whole number'),
        (np.full((6, 9), -1, np.int32), 'holds -1, no whole number'),
        (np.full((6, 9), 2**31, np.uint32), 'holds 2147483648, no whole number'),
        (np.ones((6, 9, 3), np.uint8), r'\(6, 9, 3\) is not \(H, W\)'),
    ],
)
def test_tiff_that_holds_no_ids_is_refused(tmp_path, array, message):
    tifffile.imwrite(tmp_path / 'label.tif', array)
    with pytest.raises(UserError, match=message):
        canonical.read_label_map(tmp_path / 'label.tif')


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_ignore_is_whatever_is_not_zero(tmp_path, dtype):
    mask = np.array([[0, 1, 2], [255, 0, 0]], dtype)
    Image.fromarray(mask).save(tmp_path / 'mask.png')
    np.testing.assert_array_equal(canonical.read_ignore(tmp_path / 'mask.png'), mask > 0)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'sample_id': '../a'}, 'not a plain file name'),
        ({'image': np.zeros((6, 9), np.uint8)}, r'give uint8 \(H, W, 3\)'),
        ({'image': np.zeros((6, 9, 3))}, r'give uint8 \(H, W, 3\)'),
        ({'instances': np.zeros((6, 8), int)}, r'instances \(6, 8\) and image \(6, 9\) differ'),
        ({'instances': np.zeros((6, 9))}, 'give integer ids'),
        ({'instances': np.full((6, 9), -1)}, 'negative'),
        ({'ignore': np.zeros((5, 9), bool)}, r'ignore \(5, 9\)'),
    ],
)
def test_bad_sample_is_not_written(tmp_path, image, changes, message):
    sample = {'sample_id': 'a', 'image': image, 'instances': labels_up_to(8)} | changes
    with pytest.raises(UserError, match=message):
        canonical.write_sample(tmp_path, **sample)
    assert list(tmp_path.iterdir()) == []


def test_nuclei_are_counted_by_id_not_by_piece():
    assert canonical.count_nuclei(np.array([[0, 3, 0, 3], [0, 0, 900, 0]], np.int32)) == 2
    assert canonical.count_nuclei(np.full((2, 2), 5, np.int32)) == 1
    assert canonical.count_nuclei(np.zeros((2, 2), np.int32)) == 0


def test_meta_comes_back_and_must_be_complete(tmp_path):
    canonical.write_meta(tmp_path, META)
    assert canonical.read_meta(tmp_path) == META
    with pytest.raises(UserError, match='lacks licence, images'):
        canonical.write_meta(tmp_path, {key: META[key] for key in ('name', 'classes', 'citation', 'source')})
    (tmp_path / 'meta.json').write_text('{"name": ')
    with pytest.raises(UserError, match=r'meta\.json: unreadable'):
        canonical.read_meta(tmp_path)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('name', 5),
        ('licence', None),
        ('citation', ['a']),
        ('source', {}),
        ('classes', 'nucleus'),
        ('classes', []),
        ('classes', [0, 1]),
        ('images', ['a']),
        ('images', None),
        ('splits_with_leaks', 'a'),
        ('splits_with_leaks', {'a': 1}),
    ],
)
def test_meta_of_a_wrong_type_is_one_line(tmp_path, key, value):
    (tmp_path / 'meta.json').write_text(json.dumps(META | {key: value}))
    with pytest.raises(UserError, match=rf'meta\.json: "{key}" is .*; give a ') as caught:
        canonical.read_meta(tmp_path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('text', ['[' * 10**5, '[]', '{"a": ' * 10**5, '5', '\ufeff{}', '{"name": ' + '9' * 5000 + '}'])
def test_meta_that_is_no_object_is_one_line(tmp_path, text):
    (tmp_path / 'meta.json').write_text(text, encoding='utf-8')
    with pytest.raises(UserError, match=r'meta\.json: (unreadable|holds)') as caught:
        canonical.read_meta(tmp_path)
    assert '\n' not in str(caught.value)


def test_meta_that_is_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'meta.json')
    with pytest.raises(UserError, match='named pipe'):
        canonical.read_meta(tmp_path)


def test_an_id_that_is_not_utf_8(tmp_path, image):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images' / os.fsdecode(b'caf\xe9.png')).touch()
    with pytest.raises(UserError, match='is not a name in UTF-8') as caught:
        canonical.list_ids(tmp_path)
    str(caught.value).encode()


def test_split_comes_back_and_a_missing_one_lists_those_there(tmp_path):
    parts = {'train': ['b', 'a'], 'val': ['c']}
    path = canonical.write_split(tmp_path, 'organs', parts)
    assert path == tmp_path / 'splits/organs.json'
    assert canonical.read_split(tmp_path, 'organs') == parts
    canonical.write_split(tmp_path, 'fold-0', parts)
    with pytest.raises(UserError, match="no split 'organ'; splits there: fold-0, organs"):
        canonical.read_split(tmp_path, 'organ')
    path.write_text('{"train": "a"}')
    with pytest.raises(UserError, match='not a list of ids'):
        canonical.read_split(tmp_path, 'organs')


def test_folder_without_dataset_names_the_command(tmp_path):
    with pytest.raises(UserError, match=r'nowhere holds no dataset .*mmgfnuc prepare .*--out .*nowhere'):
        canonical.list_ids(tmp_path / 'nowhere')


def test_error_survives_the_way_out_of_a_worker_process(tmp_path):
    error = canonical.BadFileError(tmp_path / 'a.png', 'missing', 'put it there')
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
