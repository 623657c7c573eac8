import importlib.util
from pathlib import Path

import pytest

from mmgfnuc.analysis.tables import COLUMNS, markdown_table, picture, replace_between, summary_table
from mmgfnuc.errors import UserError

ROOT = Path(__file__).parents[2]


def record(*dices):
    scores = [dict.fromkeys(COLUMNS, dice) | {'dice_std': 0.1} for dice in dices]
    return {
        'title': 'A title',
        'commands': ['python tools/train.py c.py'],
        'hardware': 'a CPU',
        'data': {'images': 3, 'groups': ['liver', 'lung'], 'citation': 'Who 2024', 'licence': 'CC BY'},
        'picture': 'name.jpg',
        'remark': 'Seen before.',
        'steps': 7,
        'otsu': dict.fromkeys(COLUMNS, 0.5),
        'runs': [{'seed': seed, 'train_minutes': 2.0, 'scores': run} for seed, run in enumerate(scores)],
    }


def test_one_run_shows_its_scores_and_its_command():
    text = markdown_table('name', record(0.75))
    assert '| name | 0.750 |' in text
    assert '| Otsu threshold | 0.500 |' in text
    assert 'python tools/train.py c.py' in text
    assert 'Seen before.' in text


def test_picture_is_linked_from_the_page_with_its_source():
    text = picture(record(0.75), 'docs/results/')
    assert '(docs/results/name.jpg)' in text
    assert 'Who 2024, CC BY' in text


def test_summary_has_a_line_for_each_record():
    lines = summary_table({'one': record(0.6, 0.8), 'two': record(0.7)}).splitlines()
    assert lines[2:4] == [
        '| `one`: A title | 0.700 (0.600 to 0.800) | 0.700 (0.600 to 0.800) | 0.500 |',
        '| `two`: A title | 0.700 | 0.700 | 0.500 |',
    ]
    assert lines[-2:] == ['- `one`: Seen before.', '- `two`: Seen before.']


def test_several_runs_show_mean_and_range():
    assert '| name | 0.700 (0.600 to 0.800) |' in markdown_table('name', record(0.6, 0.8))


def test_replace_between_keeps_what_lies_outside():
    text = 'a\n<!-- results -->\nold\n<!-- /results -->\nb\n'
    assert replace_between(text, 'new') == 'a\n<!-- results -->\nnew\n<!-- /results -->\nb\n'
    with pytest.raises(UserError, match='markers'):
        replace_between('no markers', 'new')


def test_tables_in_readme_and_docs_are_those_of_the_records():
    spec = importlib.util.spec_from_file_location('table', ROOT / 'tools/analysis/table.py')
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    stale = [path.name for path, text in table.rendered(ROOT).items() if path.read_text() != text]
    assert not stale, f'run `make table`: {stale} differ from docs/results/*.json'
