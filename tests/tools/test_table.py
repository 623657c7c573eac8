"""tools/analysis/table.py: it writes the tables of a repository, and nothing when asked for help."""

import json

import pytest

from mmgfnuc.analysis.measurements import UNETS

WRITTEN = ['README.md', 'docs/results/README.md', 'docs/foundation_encoders.md', 'docs/datasets/README.md']


@pytest.fixture
def repository(tmp_path):
    """README.md with an old table, and docs/results/ without records."""
    (tmp_path / 'docs' / 'results').mkdir(parents=True)
    (tmp_path / 'README.md').write_text('Before\n<!-- results -->\nan old table\n<!-- /results -->\nAfter\n')
    return tmp_path


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob('*') if path.is_file()}


def test_help_writes_nothing(tool, repository, capsys):
    before = contents(repository)
    assert tool('analysis/table.py', '--root', repository, '--help') == 0
    assert contents(repository) == before
    assert 'written' not in capsys.readouterr().out


def test_tables_replace_the_old_ones(tool, repository, capsys):
    assert tool('analysis/table.py', '--root', repository) == 0
    after = contents(repository)
    assert set(after) == set(WRITTEN)
    assert 'an old table' not in after['README.md']
    assert after['README.md'].startswith('Before\n')
    assert after['README.md'].endswith('After\n')
    assert capsys.readouterr().out.splitlines() == [f'{path} written' for path in WRITTEN]


def test_records_of_unets_make_the_model_zoo_and_no_result(tool, repository, capsys):
    settings = dict(size=64, batch=1, repeats=1, pairs=1, threads=1, device='cpu', dtype='fp32', plain_layout=False)
    row = dict(unet='a-net', train_ms=1, infer_ms=1, peak_mb=1, parameters=1, macs=1, levels=1, source='Who 2024')
    record = dict(kind=UNETS, commands=['c'], date='', versions={'torch': '2'}, hardware='a CPU', settings=settings)
    (repository / 'docs' / 'results' / 'unets.json').write_text(json.dumps(record | {'rows': [row]}))
    assert tool('analysis/table.py', '--root', repository) == 0
    after = contents(repository)
    assert {path for path, text in after.items() if 'a-net' in text} == {'docs/model_zoo.md', 'docs/results/unets.json'}
    assert 'docs/model_zoo.md written\n' in capsys.readouterr().out
