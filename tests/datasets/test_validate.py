"""The validator: silent on a sound dataset, and one line for each fault of a broken one."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.validate import WARNING, Problem, check_dataset, validate_dataset
from mmgfnuc.errors import UserError

IDS = ('a', 'b', 'c', 'd')


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for sample_id in IDS:
        instances = np.zeros((40, 50), np.int32)
        instances[2:6, 2:6] = 1
        instances[2:6, 6:9] = 2
        image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        canonical.write_sample(tmp_path, sample_id, image, instances, instances == 2)
    images = {i: {'group': f'slide of {pair}', 'mpp': None} for pair in ('ab', 'cd') for i in pair}
    meta = {'name': 'tiny', 'classes': canonical.CLASSES, 'licence': '', 'citation': '', 'source': '', 'images': images}
    canonical.write_meta(tmp_path, meta)
    canonical.write_split(tmp_path, 'half', {'train': ['a', 'b'], 'val': ['c', 'd']})
    return tmp_path


def the_only_problem(root, split=None) -> Problem:
    problems = validate_dataset(root, split)
    assert len(problems) == 1, problems
    return problems[0]


def save_png(path, array):
    Image.fromarray(array).save(path)


def test_sound_dataset_has_no_problem(root):
    assert validate_dataset(root) == []
    assert validate_dataset(root, 'half') == []
    check_dataset(root, 'half')


@pytest.mark.parametrize('folder', ['images', 'labels', 'ignore'])
def test_truncated_file(root, folder):
    path = root / folder / 'b.png'
    path.write_bytes(path.read_bytes()[:-30])
    problem = the_only_problem(root)
    assert problem.where == str(path)
    assert 'unreadable' in problem.what


@pytest.mark.parametrize('folder', ['labels', 'ignore'])
def test_size_mismatch(root, folder):
    save_png(root / folder / 'c.png', np.eye(41, 50, dtype=np.uint8) * 7)
    problem = the_only_problem(root)
    assert problem.where == str(root / folder / 'c.png')
    assert problem.what == 'size 41x50 differs from 40x50 (height x width) of c.png'


def give_types(root, sample_id, types):
    canonical.write_meta(root, canonical.read_meta(root) | {'classes': ['background', 'round', 'flat']})
    (root / 'types').mkdir()
    save_png(root / 'types' / f'{sample_id}.png', types)
    return root / 'types' / f'{sample_id}.png'


def test_types_up_to_the_last_class_are_sound(root):
    give_types(root, 'a', np.eye(40, 50, dtype=np.uint8) * 2)
    assert validate_dataset(root, 'half') == []


def test_faults_of_type_maps(root):
    path = give_types(root, 'a', np.eye(40, 50, dtype=np.uint8) * 3)
    problem = the_only_problem(root)
    assert (problem.where, problem.what) == (str(path), 'type 3, but meta.json has 3 classes')
    save_png(path, np.zeros((50, 40), np.uint8))
    assert the_only_problem(root).what == 'size 50x40 differs from 40x50 (height x width) of a.png'
    path.write_bytes(path.read_bytes()[:-30])
    assert 'unreadable' in the_only_problem(root).what
    path.rename(path.with_suffix('.npy'))
    assert 'not a .png file' in the_only_problem(root).what


def test_fractional_labels(root):
    (root / 'labels' / 'a.png').unlink()
    tifffile.imwrite(root / 'labels' / 'a.tif', np.full((40, 50), 0.5, np.float32))
    problem = the_only_problem(root)
    assert problem.where == str(root / 'labels' / 'a.tif')
    assert '0.5, no whole number' in problem.what


def test_colour_labels(root):
    save_png(root / 'labels' / 'a.png', np.zeros((40, 50, 3), np.uint8))
    assert '(40, 50, 3) is not (H, W)' in the_only_problem(root).what


def test_image_without_label(root):
    (root / 'labels' / 'a.png').unlink()
    problem = the_only_problem(root)
    assert (problem.where, problem.what) == (str(root / 'images' / 'a.png'), 'image without label')


@pytest.mark.parametrize(
    ('folder', 'what'),
    [('labels', 'label without image'), ('ignore', 'ignore without image'), ('types', 'types without image')],
)
def test_map_without_image(root, folder, what):
    (root / folder).mkdir(exist_ok=True)
    save_png(root / folder / 'x.png', np.zeros((40, 50), np.uint8))
    problem = the_only_problem(root)
    assert (problem.where, problem.what) == (str(root / folder / 'x.png'), what)


@pytest.mark.parametrize(('folder', 'file'), [('images', 'x.jpg'), ('labels', 'a.npy')])
def test_file_of_another_format_is_not_passed_over_in_silence(root, folder, file):
    (root / folder / file).touch()
    problem = the_only_problem(root)
    assert problem.where == str(root / folder / file)
    assert 'so it is not read' in problem.what


def five_squares(value):
    labels = np.zeros((40, 50), np.uint8)
    for column in range(0, 50, 10):
        labels[3:7, column : column + 4] = value
    return labels


@pytest.mark.parametrize('value', [1, 255])
def test_binary_map_given_as_instances(root, value):
    save_png(root / 'labels' / 'd.png', five_squares(value))
    problem = the_only_problem(root)
    assert problem.where == str(root / 'labels' / 'd.png')
    assert problem.what == f'a 0/{value} binary map given as instances'


def test_instance_maps_that_resemble_binary_ones_pass(root):
    lone = np.zeros((40, 50), np.uint8)
    lone[3:9, 3:9] = 1
    lone[6] = 0
    save_png(root / 'labels' / 'a.png', lone)
    many = five_squares(255)
    many[20:25, 20:25] = 254
    save_png(root / 'labels' / 'b.png', many)
    save_png(root / 'labels' / 'c.png', np.zeros((40, 50), np.uint8))
    lone_255 = np.zeros((40, 50), np.uint8)
    lone_255[3:9, 3:9] = 255
    lone_255[9, 9] = 255
    save_png(root / 'labels' / 'd.png', lone_255)
    assert validate_dataset(root) == []


def test_map_of_classes_given_as_instances(root):
    """Five kinds, most of them in many pieces; one kind has a single nucleus."""
    labels = np.zeros((40, 50), np.uint8)
    for number, column in enumerate(range(0, 50, 10), start=1):
        for row in range(0, 40, 8 if number < 5 else 40):
            labels[row : row + 4, column : column + 4] = number
    save_png(root / 'labels' / 'd.png', labels)
    problem = the_only_problem(root)
    assert (problem.kind, problem.where) == ('ids in many pieces', str(root / 'labels' / 'd.png'))
    assert '5 ids' in problem.what
    assert '21 in all' in problem.what
    with pytest.raises(UserError, match='many pieces'):
        check_dataset(root)


def test_a_nucleus_far_above_the_median_is_a_warning(root):
    labels = np.zeros((300, 300), np.int32)
    labels[100:141, 100:141] = 9
    # The others are 4 x 4 and 4 x 3.
    canonical.write_sample(root, 'd', np.zeros((300, 300, 3), np.uint8), labels)
    problem = the_only_problem(root)
    assert (problem.severity, problem.where) == (WARNING, str(root / 'labels' / 'd.png'))
    assert '10 times the median' in problem.kind
    assert problem.what == '1 (id 9)'
    with pytest.warns(UserWarning, match=r'1 x nucleus above 10 times the median diameter, first .*d\.png: 1 \(id 9\)'):
        check_dataset(root)


def test_a_foreground_above_half_of_the_image_is_a_warning(root):
    labels = np.zeros((40, 50), np.uint8)
    labels[:, :30] = np.arange(120).reshape(40, 3).repeat(10, axis=1) + 1
    save_png(root / 'labels' / 'd.png', labels)
    problem = the_only_problem(root)
    assert (problem.severity, problem.what) == (WARNING, 'nuclei cover 60%')
    assert '--invert' in problem.fix


def test_two_pieces_of_255_are_a_binary_map(root):
    labels = five_squares(255)
    labels[:, 14:] = 0
    save_png(root / 'labels' / 'd.png', labels)
    assert the_only_problem(root).what == 'a 0/255 binary map given as instances'


def test_empty_set(root):
    for folder in ('images', 'labels', 'ignore'):
        for path in (root / folder).iterdir():
            path.unlink()
    problem = the_only_problem(root)
    assert problem.where == str(root / 'images')
    assert 'empty set' in problem.what


def test_set_without_any_nucleus(root):
    for sample_id in IDS:
        save_png(root / 'labels' / f'{sample_id}.png', np.zeros((40, 50), np.uint8))
    problem = the_only_problem(root)
    assert (problem.where, problem.what) == (str(root / 'labels'), 'no nucleus in any label map')


def test_meta_missing_or_without_an_image(root):
    meta = canonical.read_meta(root)
    del meta['images']['b']
    canonical.write_meta(root, meta)
    assert the_only_problem(root).what == "no entry for image 'b'"
    (root / 'meta.json').unlink()
    assert the_only_problem(root).what == 'missing'


@pytest.mark.parametrize(
    'entry',
    [
        {'mpp': 0.5},
        {'group': 'slide'},
        {'group': 7, 'mpp': None},
        {'group': None, 'mpp': None},
        {'group': 'slide', 'mpp': '0.5'},
        {'group': 'slide', 'mpp': 0},
        {'group': 'slide', 'mpp': -0.5},
        {'group': 'slide', 'mpp': 250.0},
        pytest.param({'group': 'slide', 'mpp': 10**400}, id='huge'),
        {'group': 'slide', 'mpp': [0.5, 0.5]},
        'slide',
        ['slide', 0.5],
    ],
)
def test_meta_entry_that_describes_nothing(root, entry):
    meta = canonical.read_meta(root)
    meta['images']['b'] = entry
    canonical.write_meta(root, meta)
    problem = the_only_problem(root)
    assert problem.where == str(root / 'meta.json')
    assert problem.what == f"entry {entry!r} of image 'b'"
    assert '"group"' in problem.fix
    assert '"mpp"' in problem.fix


@pytest.mark.parametrize('mpp', [None, 1, 0.25])
def test_meta_entry_that_is_sound(root, mpp):
    meta = canonical.read_meta(root)
    meta['images']['b'] = {'group': 'slide', 'mpp': mpp, 'stain': 'H&E'}
    canonical.write_meta(root, meta)
    assert validate_dataset(root) == []


def test_meta_images_that_are_no_object(root):
    (root / 'meta.json').write_text(json.dumps(canonical.read_meta(root) | {'images': list(IDS)}))
    assert '"images" is [\'a\', ' in the_only_problem(root).what


@pytest.mark.parametrize(
    ('parts', 'what'),
    [
        ({'train': ['a', 'b'], 'val': ['c', 'b']}, "id 'b' stands in train and val"),
        ({'train': ['a', 'a'], 'val': ['c']}, "id 'a' stands in train and train"),
        ({'train': ['a', 'x'], 'val': ['c']}, "id 'x' does not exist in images/"),
        ({'train': ['a', 'b'], 'val': []}, "part 'val' is empty"),
    ],
)
def test_faults_of_a_split(root, parts, what):
    path = canonical.write_split(root, 'mine', parts)
    problem = the_only_problem(root, 'mine')
    assert (problem.where, problem.what) == (str(path), what)
    assert validate_dataset(root, 'half') == []


def test_group_in_two_parts_is_a_leak_unless_meta_says_that_it_is_meant(root):
    path = canonical.write_split(root, 'mine', {'train': ['a', 'c'], 'val': ['b'], 'test': ['d']})
    problems = validate_dataset(root, 'mine')
    assert [(problem.where, problem.what) for problem in problems] == [
        (str(path), "group 'slide of ab' stands in several parts: train (a), val (b)"),
        (str(path), "group 'slide of cd' stands in several parts: train (c), test (d)"),
    ]
    with pytest.raises(UserError, match='stands in several parts'):
        check_dataset(root, 'mine')
    canonical.write_meta(root, canonical.read_meta(root) | {'splits_with_leaks': ['mine']})
    check_dataset(root, 'mine')


def test_missing_split_lists_those_there(root):
    problem = the_only_problem(root, 'quarter')
    assert "no split 'quarter'" in problem.what
    assert problem.fix == 'splits there: half'


def test_all_faults_come_in_one_error_counted_and_line_by_line(root):
    path = root / 'images' / 'a.png'
    path.write_bytes(path.read_bytes()[:-30])
    save_png(root / 'labels' / 'a.png', five_squares(255))
    (root / 'labels' / 'b.png').unlink()
    canonical.write_split(root, 'mine', {'train': ['a', 'x'], 'val': ['a']})
    with pytest.raises(UserError) as caught:
        check_dataset(root, 'mine')
    first, *lines = str(caught.value).splitlines()
    assert first == f'5 problems in {root}:'
    assert len(lines) == 5
    for line, words in zip(
        lines, ['unreadable', 'binary map', 'without label', 'train and val', "'x' does not exist"], strict=True
    ):
        assert words in line


def test_root_that_is_not_there_names_the_command(tmp_path):
    with pytest.raises(UserError, match=r'nowhere holds no dataset .*mmgfnuc prepare'):
        check_dataset(tmp_path / 'nowhere')
