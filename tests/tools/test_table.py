"""tools/analysis/table.py: it writes the tables of a repository, and nothing when asked for help."""

import pytest


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
    assert set(after) == {'README.md', 'docs/results/README.md'}
    assert 'an old table' not in after['README.md']
    assert after['README.md'].startswith('Before\n')
    assert after['README.md'].endswith('After\n')
    assert capsys.readouterr().out == 'README.md written\ndocs/results/README.md written\n'
