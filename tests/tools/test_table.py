"""tools/analysis/table.py: it writes the tables of a repository, and nothing when asked for help."""

import json

import pytest

from mmgfnuc.analysis.measurements import INSTANCE_METRICS, UNETS
from mmgfnuc.analysis.tables import COLUMNS, INSTANCE_COLUMNS

NUMBERS = ('num_truth', 'num_predicted', 'missed', 'invented', 'merged', 'split')
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


def test_records_of_instance_speed_go_between_the_markers_of_their_page(tool, repository, capsys):
    row = dict(nuclei=1, cost_vs_unique=1, cost_vs_unique_large=1, cost_growth=1, speedup_vs_loops=1, max_abs_diff=0)
    settings = dict(size=64, growth=2, batch=1, pairs=1, threads=1, device='cpu')
    record = dict(kind=INSTANCE_METRICS, title='Time', commands=['c'], date='', versions={'torch': '2'}, hardware='')
    record |= {'settings': settings, 'rows': [row | {'ms': 1, 'ms_large': 1}]}
    (repository / 'docs' / 'results' / 'speed.json').write_text(json.dumps(record))
    page = repository / 'docs' / 'instances.md'
    page.write_text('By hand\n<!-- lost -->\nold\n<!-- /lost -->\n<!-- results -->\nold\n<!-- /results -->\n')
    assert tool('analysis/table.py', '--root', repository) == 0
    assert page.read_text().startswith('By hand\n<!-- lost -->\n\n<!-- /lost -->\n<!-- results -->\n### Time\n')
    assert 'old' not in page.read_text()
    assert 'docs/instances.md written\n' in capsys.readouterr().out


@pytest.mark.parametrize('baseline', [None, 'other'])
def test_instance_scores_reach_readme_and_results(tool, repository, baseline):
    scores = dict.fromkeys(COLUMNS, 0.5) | {'dice_std': 0.1}
    nuclei = dict.fromkeys(INSTANCE_COLUMNS, 0.25) | {'aji_pooled': 0.25} | dict.fromkeys(NUMBERS, 3)
    for report in (scores, nuclei):
        ends = {key: [0.2, 0.6] for key in INSTANCE_COLUMNS}
        report |= {'groups': {'liver': report.copy()}, 'intervals': {'level': 0.95, 'groups': 2, 'scores': ends}}
    record = {
        **dict(title='T', commands=['c'], hardware='a CPU', steps=7, remark='', picture=None, otsu=scores),
        'data': {'images': 3, 'groups': ['liver'], 'citation': '', 'licence': ''},
        'runs': [{'seed': 0, 'train_minutes': 1, 'scores': scores, 'instances': nuclei}],
    }
    for name, base in (('other', None), ('one', baseline)):
        path = repository / 'docs' / 'results' / f'{name}.json'
        path.write_text(json.dumps(record | {'baseline': base}))
    assert tool('analysis/table.py', '--root', repository) == 0
    line = '| `one` | 0.500 (0.200 to 0.600) | 0.250 (0.200 to 0.600) | 0.250 (0.200 to 0.600) |'
    assert f'{line} 2 | 3 | 3 | 3 | 3 | 3 |' in (repository / 'README.md').read_text()
    assert line in (repository / 'docs' / 'results' / 'README.md').read_text()


def test_conclusions_of_studies_come_first(tool, repository):
    study = dict(steps=7, batch_size=2, seeds=[0, 1], splits=['a', 'b'])
    made = dict(hardware=['a CPU'], commits=['abc'], command='python tools/benchmark.py what')
    results = dict(title='What helps', study=study, provenance=made)
    data_sets = [dict(data='here', conclusion=['This helps.']), dict(data='there', conclusion=['Nothing does.'])]
    folder = repository / 'docs' / 'results' / 'studies' / 'what'
    folder.mkdir(parents=True)
    (folder / 'results.json').write_text(json.dumps(results | {'data_sets': data_sets}))
    assert tool('analysis/table.py', '--root', repository) == 0
    for page, link in (('README.md', 'docs/results/studies'), ('docs/results/README.md', 'studies')):
        text = (repository / page).read_text()
        assert (
            f'**What helps** ([numbers]({link}/what/tables.md), [report with figures]({link}/what/report.html))' in text
        )
        assert 'On here:\n\n- This helps.\n\nOn there:\n\n- Nothing does.' in text
        assert '7 steps of 2 images, seeds 0, 1, folds a, b; a CPU. Commit abc.' in text
        assert '```\npython tools/benchmark.py what\n```' in text
