"""Runs over a folder that are interrupted, repeated, killed, or find no room."""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.files import DiskFullError
from mmgfnuc.inference.folder import segment_images

from .stub import Stub, assert_consistent, outputs, states, table

TOO_LITTLE_MEMORY = (
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB.'),
)


def test_too_little_memory_is_the_failure_of_that_image(many, tmp_path):
    out = tmp_path / 'out'
    stub = Stub(errors=dict(enumerate(TOO_LITTLE_MEMORY)))
    with pytest.raises(UserError) as error:
        segment_images(stub, many, out)
    first, *lines = str(error.value).splitlines()
    assert first == '3 of 4 images failed:'
    assert [line.split(': too little memory')[0] for line in lines] == [str(path) for path in many[:3]]
    assert states(out) == {'a': ('failed', None), 'b': ('failed', None), 'c': ('failed', None), 'd': ('done', 3)}
    assert [line['reason'] for line in table(out, 'images.csv')] == [*lines, '']
    assert_consistent(out)
    assert {Path(name).stem for name in outputs(out)} == {'d'}


@pytest.mark.parametrize('error', [KeyboardInterrupt(), SystemExit(143), RuntimeError('illegal memory access')])
def test_tables_are_complete_however_the_run_ends(many, tmp_path, capsys, error):
    out = tmp_path / 'out'
    with pytest.raises(type(error)):
        segment_images(Stub(errors={2: error}), many, out)
    assert states(out) == {'a': ('done', 3), 'b': ('done', 3), 'c': ('failed', None)}
    assert assert_consistent(out) == {'a', 'b'}
    assert {Path(name).stem for name in outputs(out)} == {'a', 'b'}
    assert '2 of 4 images, 6 nuclei' in capsys.readouterr().out


def lines(out):
    """Both tables, without what depends on the clock."""
    return table(out, 'nuclei.csv'), [{**line, 'seconds': ''} for line in table(out, 'images.csv')]


def test_run_again_it_continues(many, tmp_path, capsys):
    """What was done is not done again, what failed is; in the end all is as if nothing had happened."""
    out = tmp_path / 'out'
    with pytest.raises(KeyboardInterrupt):
        segment_images(Stub(errors={1: MemoryError(), 2: KeyboardInterrupt()}), many, out)
    assert states(out) == {'a': ('done', 3), 'b': ('failed', None), 'c': ('failed', None)}
    capsys.readouterr()
    stub = Stub()
    segment_images(stub, many, out)
    assert len(stub.scales) == 3
    printed = capsys.readouterr().out
    assert '1 of 4 images are done already' in printed
    assert '4 images, 12 nuclei' in printed
    segment_images(Stub(), many, tmp_path / 'at once')
    assert lines(out) == lines(tmp_path / 'at once')
    assert outputs(out) == outputs(tmp_path / 'at once')
    segment_images(Stub(errors={0: AssertionError('predicted again')}), many[:2], out)
    assert assert_consistent(out) == set('abcd'), 'results of other images stay'


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('other', [dict(shift=5), dict(mpp=0.5)])
def test_results_of_another_model_or_setting_are_not_mixed(many, tmp_path, other):
    out = tmp_path / 'out'
    segment_images(Stub(), many[:2], out)
    before = content(out)
    with pytest.raises(
        UserError, match=r'another model or other settings \(stub; (shift was 0, is 5|mpp was None, is 0\.5)'
    ):
        segment_images(Stub(**other), many[1:], out)
    assert content(out) == before
    mine = out / 'labels' / 'mine.png'
    mine.touch()
    segment_images(Stub(**other), many[1:], out, overwrite=True)
    assert assert_consistent(out) == set('bcd')
    assert {Path(name).stem for name in outputs(out)} == {*'bcd', 'mine'}, 'of the earlier run, and nothing else'
    segment_images(Stub(**other, errors={1: AssertionError('predicted again')}), many, out)
    assert assert_consistent(out) == set('abcd')


def test_a_file_that_has_changed_is_done_again(many, tmp_path, capsys):
    out = tmp_path / 'out'
    segment_images(Stub(), many, out)
    many[1].write_bytes(many[1].read_bytes() + b'more')
    stub = Stub()
    segment_images(stub, many, out)
    assert len(stub.scales) == 1
    assert '1 of 4 files have changed' in capsys.readouterr().out
    many[1].write_bytes(many[1].read_bytes() + b'more')
    with pytest.raises(UserError, match='1 of 1 images failed'):
        segment_images(Stub(errors={0: MemoryError()}), many[1:2], out)
    assert assert_consistent(out) == set('acd')
    assert {Path(name).stem for name in outputs(out)} == set('acd'), 'no result of before is left'


def test_another_file_of_the_same_name_is_refused(many, tmp_path):
    out, other = tmp_path / 'out', tmp_path / 'other' / 'a.png'
    segment_images(Stub(), many, out)
    before = content(out)
    other.parent.mkdir()
    shutil.copy(many[0], other)
    segment_images(Stub(errors={0: AssertionError('predicted again')}), [other], out)
    other.write_bytes(other.read_bytes() + b'more')
    with pytest.raises(UserError) as error:
        segment_images(Stub(), [other], out)
    assert f'other files of 1 of these names: {many[0]} (now {other})' in str(error.value)
    assert content(out).keys() == before.keys()
    segment_images(Stub(), [other], out, overwrite=True)
    assert assert_consistent(out) == {'a'}


def test_the_table_of_another_program_is_not_written_over(many, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'nuclei.csv').write_text('mine')
    with pytest.raises(UserError, match=r'nuclei\.csv is not of this version'):
        segment_images(Stub(), many, out)
    assert (out / 'nuclei.csv').read_text() == 'mine'


def test_the_labels_of_a_dataset_are_not_written_over(many, tmp_path):
    (tmp_path / 'meta.json').write_text('{}')
    with pytest.raises(UserError, match='holds a dataset'):
        segment_images(Stub(), many, tmp_path)


def test_one_writer_at_a_time(many, tmp_path, locked):
    with locked(tmp_path / 'out'), pytest.raises(UserError, match='another process is writing'):
        segment_images(Stub(), many, tmp_path / 'out')
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
    segment_images(Stub(), many[:2], out)
    with monkeypatch.context() as patch:
        disk_that_is_full(patch, name)
        with pytest.raises(DiskFullError) as error:
            segment_images(Stub(), many[1:], out)
    assert f'{name} cannot be written: the disk has' in str(error.value)
    assert '\n' not in str(error.value)
    assert assert_consistent(out) >= {'a'}
    assert name == 'nuclei.csv' or {Path(file).stem for file in outputs(out)} == {'a', 'b'}
    segment_images(Stub(), many[1:], out)
    assert assert_consistent(out) == set('abcd')
    assert not [path for path in out.rglob('.*') if path.name != '.records']


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


@pytest.mark.slow
def test_a_kill_leaves_no_table_of_another_prediction(many, tmp_path):
    """At every thirteenth change of the file system, while the results of another model are replaced."""
    out = tmp_path / 'out'
    for number in range(0, 1000, 13):
        shutil.rmtree(out, ignore_errors=True)
        segment_images(Stub(), many[:3], out)
        if not killed_at(number, lambda: segment_images(Stub(shift=5), many[1:], out, overwrite=True)):
            break
        assert_consistent(out)
        replaced = json.loads((out / 'prediction.json').read_text())['shift'] == 5
        segment_images(Stub(shift=5), many[1:], out, overwrite=not replaced)
        assert assert_consistent(out) == set('bcd')
        assert states(out) == dict.fromkeys('bcd', ('done', 3))
        assert {Path(name).stem for name in outputs(out)} == set('bcd')
        assert not [path for path in out.rglob('.*') if path.name != '.records']
    assert number > 50, number
