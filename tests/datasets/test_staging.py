"""A dataset folder is prepared whole or not at all."""

import pytest

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.staging import staged_dataset
from mmgfnuc.errors import UserError


def write(root, text, name='tiny'):
    """A dataset as far as staging looks at it: its meta.json, and a file to tell one from another."""
    meta = {'name': name, 'classes': canonical.CLASSES, 'licence': '', 'citation': '', 'source': '', 'images': {}}
    canonical.write_meta(root, meta)
    (root / f'{text}.txt').write_text(text)


def stage(out, text, stop=None):
    with staged_dataset(out, 'tiny') as root:
        write(root, text)
        if stop:
            raise stop


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_appears_when_it_is_complete(tmp_path):
    out = tmp_path / 'data' / 'tiny'
    with staged_dataset(out, 'tiny') as root:
        assert names(root) == ['.settings.json']
        write(root, 'first')
        assert names(out.parent) == ['.tiny.partial']
    assert names(out.parent) == ['tiny']
    assert names(out) == ['first.txt', 'meta.json']


def test_an_earlier_preparation_is_replaced_whole(tmp_path):
    out = tmp_path / 'tiny'
    stage(out, 'first')
    with staged_dataset(out, 'tiny') as root:
        write(root, 'second')
        assert names(out) == ['first.txt', 'meta.json']
    assert names(out) == ['meta.json', 'second.txt']
    assert names(tmp_path) == ['tiny']


@pytest.mark.parametrize('stop', [KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize('former', [[], ['first.txt', 'meta.json']])
def test_what_does_not_complete_leaves_no_trace(tmp_path, stop, former):
    out = tmp_path / 'tiny'
    if former:
        stage(out, 'first')
    with pytest.raises(stop):
        stage(out, 'second', stop)
    assert names(tmp_path) == (['tiny'] if former else [])
    assert not former or names(out) == former


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    for leftover in ('.tiny.partial', '.tiny.former'):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / 'stale.txt').touch()
    stage(tmp_path / 'tiny', 'first')
    assert names(tmp_path) == ['tiny']
    assert names(tmp_path / 'tiny') == ['first.txt', 'meta.json']


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / 'tiny').mkdir()
    stage(tmp_path / 'tiny', 'first')
    assert names(tmp_path / 'tiny') == ['first.txt', 'meta.json']


def test_other_content_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / 'notes').mkdir()
    (tmp_path / 'notes' / 'thesis.txt').write_text('years of work')
    (tmp_path / 'slides').mkdir()
    write(tmp_path / 'slides', 'mine', name='slides')
    for out in (tmp_path / 'notes', tmp_path / 'notes' / 'thesis.txt', tmp_path / 'slides'):
        with pytest.raises(UserError, match=f'{out} holds something else than a prepared tiny; choose a new folder'):
            stage(out, 'first')
    assert names(tmp_path) == ['notes', 'slides']
    assert names(tmp_path / 'notes') == ['thesis.txt']
    assert names(tmp_path / 'slides') == ['meta.json', 'mine.txt']
