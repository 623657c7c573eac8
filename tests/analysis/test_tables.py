import importlib.util
import json
from pathlib import Path

import pytest
import torch

from mmgfnuc.analysis.tables import (
    COLUMNS,
    INSTANCE_COLUMNS,
    instance_summary,
    markdown_table,
    picture,
    replace_between,
    summary_table,
)
from mmgfnuc.errors import UserError
from mmgfnuc.evaluation import NucleiInstanceMetric, NucleiSemanticMetric

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


def with_instances(made, *counts, groups=3):
    """Add reports of nuclei; each of `counts` is (true, predicted, missed, invented, merged, split) of a run.

    Every score of the run number k is 0.4 + k / 10, its interval 0.2 below to 0.1 above; the AJI+ has none.
    """
    names = ('num_truth', 'num_predicted', 'missed', 'invented', 'merged', 'split')
    for run, numbers in zip(made['runs'], counts, strict=True):
        score = 0.4 + run['seed'] / 10
        ends = {key: [score - 0.2, score + 0.1] for key in INSTANCE_COLUMNS} | {'aji_plus': None}
        intervals = {'level': 0.95, 'groups': groups, 'scores': ends}
        scores = {name: score for name in INSTANCE_COLUMNS if name != 'dice'}
        run['instances'] = {**scores, **dict(zip(names, numbers, strict=True)), 'intervals': intervals}
        run['scores']['intervals'] = intervals | {'scores': {'dice': [0.125, 0.875]}}
    return made


ONE_RUN = (1234, 1100, 200, 66, 30, 12)


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


def test_instance_scores_of_one_run_have_intervals_over_groups():
    lines = markdown_table('name', with_instances(record(0.75), ONE_RUN)).splitlines()
    assert '| name | 0.750 | 0.750 | 0.750 | 0.750 | 0.750 |' in lines
    heading = next(line for line in lines if line.startswith('|  | Dice'))
    assert heading == '|  | Dice | AJI | AJI+ | DQ | SQ | PQ | pooled PQ | F1 at IoU 0.5 | detection F1 |'
    interval = '0.400 (0.200 to 0.500)'
    cells = ['`name`', '0.750 (0.125 to 0.875)', interval, '0.400', *6 * [interval]]
    assert f'| {" | ".join(cells)} |' in lines
    assert (
        '- `name`: of 1,234 true nuclei 1,034 are matched and 200 missed; of 1,100 predicted ones 66 are invented. '
        'Predicted nuclei that merge true ones: 30; true ones split: 12.'
    ) in lines


@pytest.mark.parametrize(
    ('groups', 'said'),
    [
        (1, 'All images are of one group: there is no interval. '),
        (3, '95 % interval over 3 groups of images, by bootstrap: with fewer than ten groups it is too narrow. '),
        (10, '95 % interval over 10 groups of images, by bootstrap. '),
    ],
)
def test_the_number_of_groups_behind_an_interval_is_said(groups, said):
    assert said in markdown_table('name', with_instances(record(0.75), ONE_RUN, groups=groups))


def test_instance_scores_of_several_runs_have_their_range_and_mean_counts():
    text = markdown_table('name', with_instances(record(0.6, 0.8), ONE_RUN, (1234, 1000, 300, 64, 10, 12)))
    assert '| `name` | 0.700 (0.600 to 0.800) | 0.450 (0.400 to 0.500) | 0.450 (0.400 to 0.500) |' in text
    assert 'In brackets the range over seeds.' in text
    assert 'of 1,234 true nuclei 984 are matched and 250 missed; of 1,050 predicted ones 65 are invented.' in text
    assert text.count('Predicted nuclei that merge true ones: 20; true ones split: 12. Means over seeds.') == 1


def test_summary_of_nuclei_has_a_line_for_each_record():
    other = with_instances(record(0.6, 0.8), ONE_RUN, (1234, 1000, 300, 64, 10, 12), groups=16)
    lines = instance_summary({'one': with_instances(record(0.75), ONE_RUN), 'two': other}).splitlines()
    interval, seeds = '0.400 (0.200 to 0.500)', '0.450 (0.400 to 0.500)'
    assert lines[0] == '|  | Dice | AJI | PQ | groups | true nuclei | missed | merged | split | invented |'
    assert lines[2:4] == [
        f'| `one` | 0.750 (0.125 to 0.875) | {interval} | {interval} | 3 | 1,234 | 200 | 30 | 12 | 66 |',
        f'| `two` | 0.700 (0.600 to 0.800) | {seeds} | {seeds} | 16 | 1,234 | 250 | 20 | 12 | 65 |',
    ]
    assert 'the 95 % interval over groups of images' in lines[-1]


def test_the_reports_of_the_metrics_have_all_that_the_tables_show(tmp_path):
    """Two true nuclei, one of them found, in each of two groups."""
    truth, found = torch.tensor([[[1, 1, 0, 2, 2]]]), torch.tensor([[[1, 1, 0, 0, 0]]])
    maps = {'pred_instance_map': found, 'pred_sem_seg': found, 'gt_instance_map': truth}
    sample = {name: {'data': data} for name, data in (maps | {'gt_sem_seg': truth.clip(max=1)}).items()}
    for metric in (NucleiSemanticMetric(out_dir=tmp_path), NucleiInstanceMetric(out_dir=tmp_path)):
        metric.process({}, [sample | {'img_id': group, 'group': group} for group in ('liver', 'lung')])
        metric.evaluate(2)
    made = record(0.75)
    for key, name in (('scores', 'metrics.json'), ('instances', 'instances.json')):
        made['runs'][0][key] = json.loads((tmp_path / name).read_text())
    text = markdown_table('name', made)
    half, two_thirds = '0.500 (0.500 to 0.500)', '0.667 (0.667 to 0.667)'
    dq_sq_pq = [two_thirds, '1.000 (1.000 to 1.000)', two_thirds]
    assert f'| {" | ".join(["`name`", two_thirds, half, half, *dq_sq_pq, *3 * [two_thirds]])} |' in text
    assert 'of 4 true nuclei 2 are matched and 2 missed; of 2 predicted ones 0 are invented.' in text
    assert '95 % interval over 2 groups' in text


def test_the_caption_says_what_the_picture_shows():
    assert 'Truth green, prediction yellow. Image: Who 2024' in picture(record(0.75))
    text = picture(record(0.75) | {'caption': 'errors'})
    assert text.startswith('![Tissue, truth, prediction and errors side by side](name.jpg)')
    assert 'green' not in text
    assert 'else missed (true) or invented (predicted). Image: Who 2024, CC BY.' in text


def test_tables_in_readme_and_docs_are_those_of_the_records():
    spec = importlib.util.spec_from_file_location('table', ROOT / 'tools/analysis/table.py')
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    stale = [path.name for path, text in table.rendered(ROOT).items() if path.read_text() != text]
    assert not stale, f'run `make table`: {stale} differ from docs/results/*.json'
