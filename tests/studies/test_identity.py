"""What a run and what is made of it afterwards are known by."""

import os
import shutil
from pathlib import Path

import pytest

from mmgfnuc.studies import identity
from mmgfnuc.studies.identity import PICTURED, code_digest, data_digest
from mmgfnuc.studies.storage import inside_file

LOSS = 'models/losses/dice_focal.py'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, in the place of that which is hashed."""
    copy = tmp_path / 'mmgfnuc'
    shutil.copytree(identity.PACKAGE, copy, ignore=shutil.ignore_patterns('.mim', '__pycache__'))
    monkeypatch.setattr(identity, 'PACKAGE', copy)
    code_digest.cache_clear()
    yield copy
    code_digest.cache_clear()


@pytest.fixture
def known(runs_of, package):
    """What the code of today would be known by: keys of runs, name of what is seen inside, key of pictures."""

    def digests():
        code_digest.cache_clear()
        return [run.key for run in runs_of()], inside_file(Path()).name, code_digest(*PICTURED)

    return digests


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.mark.slow
def test_words_and_other_tools_cost_nothing(known, package):
    before = known()
    edit(package / LOSS, '"""', '"""Other words. ')
    edit(package / LOSS, '\nimport', '\n# A remark.\n\nimport')
    edit(package / LOSS, 'gamma: float = 2.0,', 'gamma: float = (\n            2.0\n        ),')
    edit(package / 'studies' / 'report.py', 'tables.md', 'table.md')
    (package / 'doctor.py').write_text('CHECKS = ()\n')
    assert known() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ('file', 'before', 'after'),
    [
        (LOSS, 'gamma: float = 2.0', 'gamma: float = 2.5'),
        ('postprocess/__init__.py', '', 'NEW = 1\n'),
        ('inference/preprocessing.py', 'preprocessing.mpp / factor', 'preprocessing.mpp'),
    ],
)
def test_code_that_scores_depend_on_makes_other_runs(known, package, file, before, after):
    keys = known()[0]
    edit(package / file, before, after)
    assert not set(known()[0]) & set(keys)


@pytest.mark.slow
def test_code_that_looks_inside_makes_no_other_runs(known, package):
    keys, inside, pictures = known()
    edit(package / 'studies' / 'calibration.py', 'NUM_BINS = 15', 'NUM_BINS = 10')
    assert known()[0] == keys
    assert known()[1] != inside
    assert known()[2] == pictures
    edit(package / 'studies' / 'pictures.py', 'REGION = 256', 'REGION = 128')
    assert known()[0] == keys
    assert known()[2] != pictures


def test_config_libraries_and_data_make_other_runs(runs_of, data, tmp_path, monkeypatch):
    first, second = (run.key for run in runs_of())
    assert [run.key for run in runs_of()] == [first, second] != [second, first]
    copy = tmp_path / 'data'
    shutil.copytree(data, copy)
    changed = copy / 'labels' / 'train_0000.png'
    monkeypatch.setattr('mmgfnuc.studies.runs.data_root', lambda study, name: data)
    same = [run.key for run in runs_of(data_root=str(copy))]
    monkeypatch.setattr('mmgfnuc.studies.runs._checked_digest', lambda study, name, folder: data_digest(copy, folder))
    assert [run.key for run in runs_of(data_root=str(copy))] == same
    changed.write_bytes(changed.read_bytes() + b'\0')
    assert not {run.key for run in runs_of(data_root=str(copy))} & set(same)
    monkeypatch.undo()
    assert not {first, second} & {run.key for run in runs_of(steps=5)}
    assert not {first, second} & {run.key for run in runs_of(seeds=[1])}
    monkeypatch.setattr('mmgfnuc.studies.runs.library_versions', lambda: {'torch': '3'})
    assert not {first, second} & {run.key for run in runs_of()}


def test_a_file_is_read_again_where_its_size_or_time_has_changed(tmp_path):
    root, kept = tmp_path / 'data', tmp_path / 'kept'
    (root / 'images').mkdir(parents=True)
    file = root / 'images' / 'a.png'
    file.write_bytes(b'one')
    first, time = data_digest(root, kept), file.stat().st_mtime_ns
    # As long and as old as before, so that it is not read; only a cache that is gone tells.
    file.write_bytes(b'two')
    os.utime(file, ns=(time, time))
    assert data_digest(root, kept) == first
    (manifest,) = kept.glob('*.json')
    for content in ('', '[]', '{"images/a.png": 5}'):
        manifest.write_text(content)
        assert data_digest(root, kept) != first
    os.utime(file, ns=(time, time + 1))
    file.write_bytes(b'one')
    assert data_digest(root, kept) == first
    file.rename(root / 'images' / 'b.png')
    assert data_digest(root, kept) != first


def test_where_nothing_may_be_kept_the_manifest_is_the_same(tmp_path):
    root, locked = tmp_path / 'data', tmp_path / 'file'
    root.mkdir()
    (root / 'meta.json').write_text('{}')
    locked.write_text('no folder')
    assert data_digest(root, locked / 'kept') == data_digest(root, tmp_path / 'kept')
