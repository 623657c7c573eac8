import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.files import DiskFullError, output_lock, read_csv, read_json, whole_file, write_csv, write_json, write_text


def files_below(folder):
    return [path for path in folder.rglob('*') if path.is_file()]


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / 'deep' / 'er' / 'a.txt'
    with whole_file(path) as unfinished:
        assert unfinished.parent == path.parent, 'only within one file system is the change of name atomic'
        assert unfinished.name.startswith('.')
        unfinished.write_text('part')
        assert not path.exists()
        unfinished.write_text('whole')
    assert path.read_text() == 'whole'
    assert files_below(tmp_path) == [path]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with whole_file(path) as unfinished:
        unfinished.write_text('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'


def write_half(path, before, fail):
    """Fail while a file is written, of which there may have been one before."""
    for text in before:
        path.write_text(text)
    with whole_file(path) as unfinished:
        unfinished.write_text('half')
        fail(unfinished)


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize('before', [[], ['old']])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, error, before):
    def fail(unfinished):
        raise error

    with pytest.raises(error):
        write_half(tmp_path / 'a.txt', before, fail)
    assert [file.read_text() for file in files_below(tmp_path)] == before


def test_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(RuntimeError), whole_file(tmp_path / 'a.txt'):
        raise RuntimeError
    assert files_below(tmp_path) == []


@pytest.mark.parametrize('kind', ['folder', 'pipe', 'link', 'dangling link', 'device'])
def test_what_is_no_file_is_not_written_over(tmp_path, kind):
    path = tmp_path / 'out'
    victim = tmp_path / 'victim.txt'
    victim.write_text('mine')
    if kind == 'folder':
        path.mkdir()
    elif kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'device':
        path = Path(os.devnull)
    else:
        path.symlink_to(victim if kind == 'link' else tmp_path / 'nowhere')
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=f'{path} is a folder, a link or a device'):
        write_text(path, 'new')
    assert sorted(tmp_path.iterdir()) == before
    assert victim.read_text() == 'mine'


def no_room(path):
    raise OSError(errno.ENOSPC, 'No space left on device', str(path))


def hidden_no_room(path):
    """As torch.save, Pillow and tifffile do, which raise errors of their own."""
    try:
        no_room(path)
    except OSError as error:
        raise RuntimeError('unexpected pos 64 vs 0') from error


@pytest.mark.parametrize('fail', [no_room, hidden_no_room])
@pytest.mark.parametrize('before', [[], ['old']])
def test_a_full_disk_is_told_in_one_line_and_leaves_what_was_there(tmp_path, fail, before):
    path = tmp_path / 'a.txt'
    with pytest.raises(DiskFullError, match=rf'{path} cannot be written: the disk has [\d.]+ MB free') as caught:
        write_half(path, before, fail)
    assert '\n' not in str(caught.value)
    assert [file.read_text() for file in files_below(tmp_path)] == before


def test_an_error_without_a_number_on_a_disk_without_room_is_that_of_a_full_disk(tmp_path, monkeypatch):
    def write():
        with whole_file(tmp_path / 'a.png'):
            raise OSError('encoder error -2 when writing image file')

    with pytest.raises(OSError, match='encoder error'):
        write()
    monkeypatch.setattr('shutil.disk_usage', lambda path: SimpleNamespace(free=4096))
    with pytest.raises(DiskFullError, match=r'0\.0 MB free'):
        write()


def in_another_process(act):
    """Exit code of a forked process: 0, or 2 for a UserError."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except UserError:
            code = 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def take(folder):
    with output_lock(folder):
        pass


def test_one_process_at_a_time_writes_to_a_folder(tmp_path):
    folder = tmp_path / 'out'
    with output_lock(folder):
        assert in_another_process(lambda: take(folder)) == 2
        assert in_another_process(lambda: take(tmp_path / 'other')) == 0
        take(folder / '..' / 'out')  # the process that has it may take it again
        assert in_another_process(lambda: take(folder)) == 2
    assert in_another_process(lambda: take(folder)) == 0


def test_a_lock_ends_with_its_process_even_if_a_child_of_it_lives_on(tmp_path):
    reading, writing = os.pipe()

    def die():
        with output_lock(tmp_path / 'out'):
            if os.fork() == 0:  # like a worker of a data loader
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
            os._exit(137)

    assert in_another_process(die) == 137
    take(tmp_path / 'out')
    os.close(writing)


def test_a_folder_whose_parent_is_not_writable_has_its_lock_within(tmp_path, monkeypatch):
    """As a mounted volume; a process with the same rights finds the same lock."""
    folder = tmp_path / 'volume'
    folder.mkdir()
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != tmp_path)
    with output_lock(folder):
        assert [path.name for path in files_below(tmp_path)] == ['.lock']
        assert in_another_process(lambda: take(folder)) == 2
    assert in_another_process(lambda: take(folder)) == 0


def test_what_a_killed_process_was_writing_is_removed_by_the_next(tmp_path):
    folder = tmp_path / 'out'

    def die():
        for path in (folder / 'iter_2.pth', folder / 'test' / 'metrics.json'):
            with whole_file(path) as unfinished:
                unfinished.write_text('half')
                if path.parent != folder:
                    os._exit(137)
                path.parent.joinpath('kept.tmp').write_text('of somebody else')

    assert in_another_process(die) == 137
    assert any(path.name.startswith('.') for path in files_below(folder))
    take(folder)
    assert sorted(path.name for path in files_below(folder)) == ['iter_2.pth', 'kept.tmp']


def test_a_full_disk_in_an_output_folder_names_the_folder(tmp_path):
    def write():
        with output_lock(tmp_path / 'out'):
            raise OSError(errno.ENOSPC, 'No space left on device')  # by a library, without a name

    with pytest.raises(DiskFullError, match=f'{tmp_path / "out"} cannot be written'):
        write()


def test_json_is_strict_and_comes_back_as_it_was_written(tmp_path):
    path, content = tmp_path / 'a.json', {'name': 'Zürich', 'file': os.fsdecode(b'caf\xe9'), 'values': [1, 0.5]}
    write_json(path, content)
    assert read_json(path, 'write it again') == content
    write_json(path, content, indent=None)
    assert path.read_bytes() == '{"name":"Zürich","file":"caf\\udce9","values":[1,0.5]}\n'.encode()
    assert read_json(path, 'write it again') == content
    with pytest.raises(ValueError, match='not JSON compliant'):
        write_json(path, {'name': float('nan')})
    assert [each.name for each in tmp_path.iterdir()] == ['a.json']


@pytest.mark.parametrize('content', ['', '{"dice": 0.5', '[]', '{"dice": "high"}', '{}', '\xff', '[' * 100_000])
def test_a_damaged_report_is_named_with_what_to_do(tmp_path, content):
    path = tmp_path / 'metrics.json'
    path.write_bytes(content.encode('latin-1'))
    with pytest.raises(UserError, match=f'{path} .*; test again') as caught:
        read_json(path, 'test again', dice=float)
    assert '\n' not in str(caught.value)


def test_a_table_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / 'table.csv'
    ids = ['=1+1', "'=1", '-5', '@a', 'plain', 'Zürich, "x"']
    write_csv(path, ['id', 'score'], [[name, 0.5] for name in ids])
    assert "'=1+1" in path.read_text('utf-8')
    assert [row['id'] for row in read_csv(path, 'fix', 'id')] == ids


@pytest.mark.parametrize('content', ['', 'id,dice\na\n', 'id,dice\na,1,2\n', 'name,dice\na,1\n', '\xff'])
def test_a_damaged_table_is_named_with_what_to_do(tmp_path, content):
    path = tmp_path / 'per_image.csv'
    path.write_bytes(content.encode('latin-1'))
    with pytest.raises(UserError, match=f'{path} .*; test again'):
        read_csv(path, 'test again', 'id', 'dice')
