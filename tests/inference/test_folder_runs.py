"""Runs over a folder that are interrupted, repeated, killed, or find no room."""

import errno
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from mmgfnuc.datasets import limits
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


def test_an_image_that_cannot_be_predicted_in_the_free_memory_is_not_begun(many, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, 'SMALL', 0)
    # Enough to read one.
    monkeypatch.setattr(limits, 'free_memory', lambda: 50 * 20 * 40)
    stub = Stub()
    with pytest.raises(UserError, match=r'a\.png: .* GB of memory to be predicted'):
        segment_images(stub, many, tmp_path / 'out')
    assert stub.scales == []
    assert set(states(tmp_path / 'out').values()) == {('failed', None)}


@pytest.mark.parametrize('error', [KeyboardInterrupt(), SystemExit(143), RuntimeError('illegal memory access')])
def test_tables_are_complete_however_the_run_ends(many, tmp_path, capsys, error):
    out = tmp_path / 'out'
    with pytest.raises(type(error)):
        segment_images(Stub(errors={2: error}), many, out)
    assert states(out) == {'a': ('done', 3), 'b': ('done', 3)}
    assert assert_consistent(out) == {'a', 'b'}
    assert '2 of 4 images, 6 nuclei' in capsys.readouterr().out


def test_a_second_run_keeps_the_results_of_other_images(many, tmp_path, capsys):
    out = tmp_path / 'out'
    segment_images(Stub(), many[:2], out)
    assert 'notice: ' not in capsys.readouterr().out.replace('notice: the size of a pixel', '')
    before = [line for line in table(out, 'nuclei.csv') if line['image'] == 'a']
    segment_images(Stub(shift=5), many[1:], out)
    assert '1 of 3 images have results of an earlier run' in capsys.readouterr().out
    assert assert_consistent(out) == set('abcd')
    assert [line for line in table(out, 'nuclei.csv') if line['image'] == 'a'] == before
    assert {line['x_px'] for line in table(out, 'nuclei.csv') if line['image'] == 'b'} == {'7.0', '10.5', '9.5'}


def test_another_image_of_the_same_name_is_pointed_out(many, tmp_path, capsys):
    (tmp_path / 'other').mkdir()
    other = tmp_path / 'other' / 'a.png'
    other.write_bytes(many[0].read_bytes())
    for path in (many[0], other):
        segment_images(Stub(), [path], tmp_path / 'out')
    assert f'warning: 1 of these are of another file of that name: {many[0]} by {other}' in capsys.readouterr().out


def test_an_image_that_fails_has_no_results_of_before(many, tmp_path):
    out = tmp_path / 'out'
    segment_images(Stub(), many, out)
    with pytest.raises(UserError, match='1 of 1 images failed'):
        segment_images(Stub(errors={0: MemoryError()}), many[1:2], out)
    assert states(out)['b'] == ('failed', None)
    assert assert_consistent(out) == set('acd')
    assert {Path(name).stem for name in outputs(out)} == set('acd')


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
            segment_images(Stub(shift=5), many[1:], out)
    assert f'{name} cannot be written: the disk has' in str(error.value)
    assert '\n' not in str(error.value)
    assert assert_consistent(out) >= {'a'}
    assert name == 'nuclei.csv' or {Path(file).stem for file in outputs(out)} == {'a', 'b'}
    segment_images(Stub(shift=5), many[1:], out)
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
        if not killed_at(number, lambda: segment_images(Stub(shift=5), many[1:], out)):
            break
        assert assert_consistent(out) >= {'a'}
        segment_images(Stub(shift=5), many[1:], out)
        assert assert_consistent(out) == set('abcd')
        assert states(out) == dict.fromkeys('abcd', ('done', 3))
        assert not [path for path in out.rglob('.*') if path.name != '.records']
    assert number > 50, number
