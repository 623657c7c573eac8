"""`mmgfnuc prepare`: from a source tree to a dataset with splits, or to one clear line."""

import importlib
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.validate import validate_dataset
from mmgfnuc.shipped import find_config

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools' / 'datasets' / 'prepare.py'
# The package has a function of that name.
CONVERT = importlib.import_module('mmgfnuc.datasets.converters.convert')
ORGANS = ('human rectum', 'human kidney', 'mouse heart', 'human lung', 'mouse spleen')


@pytest.fixture(scope='module')
def prepare(tool):
    return lambda *args: tool('prepare', *args)


def start(*args):
    """Begin a preparation in a process of its own."""
    command = [sys.executable, SCRIPT, *args]
    return subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)


def write_source(root, organs, per_organ=2):
    rng = np.random.default_rng(0)
    labels = np.zeros((8, 8), np.uint16)
    labels[1:3, 1:3] = 2
    labels[1:3, 3:5] = 9
    for organ in organs:
        for folder in ('tissue images', 'label masks modify'):
            (root / organ / folder).mkdir(parents=True)
        for number in range(per_organ):
            name = f'{organ.replace(" ", "_")}_{number:02d}'
            image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / organ / 'tissue images' / f'{name}.png')
            tifffile.imwrite(root / organ / 'label masks modify' / f'{name}.tif', labels)
    return root


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / 'NuInsSeg', ORGANS)


def test_default_run_writes_the_organ_split_and_sums_up(prepare, source, tmp_path, capsys):
    out = tmp_path / 'out'
    assert prepare('nuinsseg', '--source', source, '--out', out) == 0
    split = canonical.read_split(out, 'organs')
    assert split['val'] == [f'{o}_{n:02d}' for o in ('human_kidney', 'human_rectum', 'mouse_heart') for n in (0, 1)]
    assert split['train'] == [f'{o}_{n:02d}' for o in ('human_lung', 'mouse_spleen') for n in (0, 1)]
    assert canonical.list_splits(out) == ['organs']
    assert validate_dataset(out, 'organs') == []
    printed = capsys.readouterr().out
    assert '10 images, 20 nuclei, 5 groups' in printed
    assert 'notice: 10 images here, 665 as published' in printed


def test_named_groups_and_folds_which_are_always_grouped(prepare, source, tmp_path):
    out = tmp_path / 'out'
    args = ('--val-groups', 'human lung', 'mouse heart', '--folds', 5)
    assert prepare('nuinsseg', '--source', source, '--out', out, *args) == 0
    assert canonical.list_splits(out) == [*(f'grouped-5-fold-{i}' for i in range(5)), 'organs']
    organs = canonical.read_split(out, 'organs')
    assert {i[:-3] for i in organs['val']} == {'human_lung', 'mouse_heart'}
    for i in range(5):
        fold = canonical.read_split(out, f'grouped-5-fold-{i}')
        assert len({sample_id[:-3] for sample_id in fold['val']}) == 1
        assert validate_dataset(out, f'grouped-5-fold-{i}') == []


def test_without_the_default_organs_a_notice_replaces_the_split(prepare, tmp_path, capsys):
    source = write_source(tmp_path / 'NuInsSeg', ['human lung', 'human rectum'])
    assert prepare('nuinsseg', '--source', source, '--out', tmp_path / 'out') == 0
    printed = capsys.readouterr().out
    assert 'notice: no split "organs"' in printed
    assert 'splits: none' in printed


@pytest.mark.slow
def test_official_folds_are_written_only_for_the_full_set(prepare, tmp_path):
    source = write_source(tmp_path / 'NuInsSeg', [f'human o{i}' for i in range(7)], per_organ=95)
    assert prepare('nuinsseg', '--source', source, '--out', tmp_path / 'out') == 0
    assert canonical.list_splits(tmp_path / 'out') == [f'official-{i}' for i in range(5)]
    folds = [canonical.read_split(tmp_path / 'out', f'official-{i}')['val'] for i in range(5)]
    assert sorted(i for fold in folds for i in fold) == canonical.list_ids(tmp_path / 'out')


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--folds', '9'], '9 folds of 5 groups; choose 2 to 5'),
        (['--val-groups', 'human_lung'], "group='human_lung' is unknown; did you mean human lung?"),
        (['--source', 'nowhere'], 'nowhere is not there; give the folder or archive'),
    ],
)
def test_bad_request_is_one_line_exit_code_2_and_no_dataset(prepare, source, tmp_path, capsys, args, message):
    out = tmp_path / 'out'
    assert prepare('nuinsseg', '--source', source, '--out', out, *args) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert error.count('\n') == 1
    assert message in error
    assert not out.exists()


def files(root):
    return {path.relative_to(root): path.stat().st_mtime_ns for path in root.rglob('*')}


def test_an_earlier_preparation_is_kept_unless_it_may_be_replaced(prepare, source, tmp_path, capsys, monkeypatch):
    out = tmp_path / 'out'
    assert prepare('nuinsseg', '--source', source, '--out', out) == 0
    before = files(out)
    with monkeypatch.context() as patch:
        patch.setattr(CONVERT, '_write_one', None)
        assert prepare('nuinsseg', '--source', source, '--out', out, '--folds', 5) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f'error: {out} already holds a prepared dataset (nuinsseg); --overwrite')
        assert prepare('synthetic', '--out', out, '--train', 1, '--val', 1) == 2
    assert files(out) == before
    assert prepare('nuinsseg', '--source', source, '--out', out, '--folds', 5, '--overwrite') == 0
    assert len(canonical.list_splits(out)) == 6


def test_what_is_refused_is_refused_before_anything_is_converted(prepare, source, tmp_path, capsys, monkeypatch):
    out = tmp_path / 'out'
    assert prepare('nuinsseg', '--source', source, '--out', out) == 0
    canonical.write_split(out, 'mine', {'train': [], 'val': []})
    monkeypatch.setattr(CONVERT, '_write_one', None)
    assert prepare('nuinsseg', '--source', source, '--out', out, '--overwrite') == 2
    assert 'mine.json would be lost' in capsys.readouterr().err
    (tmp_path / 'notes').mkdir()
    (tmp_path / 'notes' / 'thesis.txt').touch()
    assert prepare('nuinsseg', '--source', source, '--out', tmp_path / 'notes', '--overwrite') == 2
    assert 'holds something else' in capsys.readouterr().err


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def test_the_last_line_is_the_next_command(prepare, tmp_path, capsys):
    """It names a split with both parts; without one it is the same command with folds, which then works."""
    source = write_source(tmp_path / 'NuInsSeg', ['human lung', 'human rectum'])
    out = tmp_path / 'my data'
    args = ['nuinsseg', '--source', source, '--out', out]
    assert prepare(*args) == 0
    command = shlex.split(last_line(capsys).partition(': ')[2])
    assert command == ['mmgfnuc', 'prepare', *map(str, args), '--folds', '2', '--overwrite']
    assert prepare(*command[2:]) == 0
    command = shlex.split(last_line(capsys).partition(': ')[2])
    config = 'configs/cpu/own_data.py'
    assert command == ['mmgfnuc', 'train', config, '--data', str(out), '--split', 'grouped-2-fold-0']
    assert find_config(config)


def test_a_single_group_cannot_be_split(prepare, tmp_path, capsys):
    source = write_source(tmp_path / 'NuInsSeg', ['human lung'])
    assert prepare('nuinsseg', '--source', source, '--out', tmp_path / 'out') == 0
    assert 'another group' in last_line(capsys)


@pytest.mark.filterwarnings('ignore:a binary mask')
def test_masks_that_are_inverted(prepare, tmp_path, capsys):
    """The background covers most of an image: a notice names the option, which alone sets it right."""
    source = tmp_path / 'mine'
    mask = np.full((20, 20), 255, np.uint8)
    mask[2:6, 2:6] = mask[9:14, 9:14] = 0
    for folder, array in (('images', np.repeat(mask[..., None], 3, axis=2)), ('masks', mask)):
        (source / folder).mkdir(parents=True)
        Image.fromarray(array).save(source / folder / 'tile.png')
    args = ('masks', '--source', source, '--out')
    assert prepare(*args, tmp_path / 'wrong') == 0
    printed = capsys.readouterr().out
    assert 'notice: ' in printed
    assert '--invert: 1 (tile: 90%)' in printed
    assert prepare(*args, tmp_path / 'right', '--invert') == 0
    assert 'notice: masks' not in capsys.readouterr().out
    labels = canonical.read_label_map(tmp_path / 'right' / 'labels' / 'tile.png')
    np.testing.assert_array_equal(labels > 0, mask == 0)
    assert canonical.count_nuclei(labels) == 2


@pytest.mark.parametrize('types', [[], ['epithelial', 'lymphocyte', 'connective']], ids=['plain', 'typed'])
def test_synthetic_dataset_is_sound(prepare, tmp_path, capsys, types):
    options = ['--types'] if types else []
    out = tmp_path / 'out'
    assert prepare('synthetic', '--out', out, '--train', 2, '--val', 1, '--size', 128, '--seed', 3, *options) == 0
    assert '3 images' in capsys.readouterr().out
    split = canonical.read_split(out, 'default')
    assert {part: len(ids) for part, ids in split.items()} == {'train': 2, 'val': 1}
    assert validate_dataset(out, 'default') == []
    assert canonical.read_meta(out)['classes'] == ['background', *(types or ['nucleus'])]
    assert [bool(canonical.sample_paths(out, name).types) for name in canonical.list_ids(out)] == 3 * [bool(types)]


def test_process_prints_the_error_and_ends_with_code_2(tmp_path):
    process = start('nuinsseg', '--source', tmp_path, '--out', tmp_path / 'out')
    _, said = process.communicate()
    assert process.returncode == 2
    (line,) = said.splitlines()
    assert line.startswith('error: ')


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path, prepare):
    """SIGKILL in the middle: nothing at the target, and the second run keeps what the first had written."""
    source = write_source(tmp_path / 'NuInsSeg', [f'human o{i}' for i in range(30)], per_organ=10)
    out, partial = tmp_path / 'out', tmp_path / '.out.partial'
    process = start('nuinsseg', '--source', source, '--out', out, '--workers', 1)
    while process.poll() is None and len(list(partial.glob('images/*.png'))) < 20:
        time.sleep(0.001)
    process.kill()
    process.wait()
    written = {path.name: path.stat().st_mtime_ns for path in partial.glob('images/*.png')}
    assert 20 <= len(written) < 300
    assert not out.exists()
    assert prepare('nuinsseg', '--source', source, '--out', out, '--workers', '1') == 0
    assert len(canonical.list_ids(out)) == 300
    assert {name: (out / 'images' / name).stat().st_mtime_ns for name in written} == written
    assert validate_dataset(out) == []
    assert not partial.exists()


def children_of(pid):
    """Ids of all processes below one, by the tables of the system."""
    below = {}
    for status in Path('/proc').glob('[0-9]*/stat'):
        with suppress(OSError):
            fields = status.read_text().rpartition(')')[2].split()
            below.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found, waiting = [], [pid]
    while waiting:
        found += (children := below.get(waiting.pop(), []))
        waiting += children
    return found


@pytest.mark.slow
def test_a_killed_run_leaves_no_process(all_end, tmp_path):
    source = write_source(tmp_path / 'NuInsSeg', [f'human o{i}' for i in range(30)], per_organ=10)
    partial = tmp_path / '.out.partial'
    process = start('nuinsseg', '--source', source, '--out', tmp_path / 'out', '--workers', 2)
    while process.poll() is None and not any(partial.glob('images/*.png')):
        time.sleep(0.01)
    workers = children_of(process.pid)
    assert len(workers) >= 3, 'the server of forks and two workers'
    process.kill()
    process.wait()
    assert all_end(workers)
