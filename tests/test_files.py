import pytest

from mmgfnuc.files import whole_file


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


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize('before', [[], ['old']])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, error, before):
    path = tmp_path / 'a.txt'
    for text in before:
        path.write_text(text)

    def write():
        with whole_file(path) as unfinished:
            unfinished.write_text('half')
            raise error

    with pytest.raises(error):
        write()
    assert [file.read_text() for file in files_below(tmp_path)] == before


def test_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(RuntimeError), whole_file(tmp_path / 'a.txt'):
        raise RuntimeError
    assert files_below(tmp_path) == []
