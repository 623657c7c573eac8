"""From the files of finished runs to what is said of them. Each expected number is worked out by hand."""

import csv
import json
import math

import numpy as np
import pytest
from markdown_it import MarkdownIt

from mmgfnuc.datasets.canonical import CLASSES, write_meta
from mmgfnuc.engine.tested import write_tested
from mmgfnuc.errors import UserError
from mmgfnuc.studies.conclusions import conclusions
from mmgfnuc.studies.inside import pooled_inside, rebinned
from mmgfnuc.studies.markdown import markdown_report
from mmgfnuc.studies.results import (
    control_pairs,
    fusion_pairs,
    is_control,
    other_pairs,
    study_record,
    study_results,
)
from mmgfnuc.studies.runs import Run
from mmgfnuc.studies.storage import COMPARED, SCORES, inside_file, record_divergence, study_scores
from mmgfnuc.studies.study import make_study
from mmgfnuc.visualization.study_page import study_page

META = {
    'name': 'made',
    'classes': CLASSES,
    'licence': 'CC0',
    'citation': 'Who 2024',
    'source': 'made',
    'images': {},
}
GROUPS = [f'organ {number}' for number in range(8)]
ARMS = [
    {'unet': 'unet'},
    {'unet': 'unet', 'foundation': 'vit-tiny', 'fusion': ['context', 'shuffled-context-image']},
    {'unet': 'unet', 'foundation': 'vit-tiny', 'fusion': 'context', 'weights': 'random'},
    {'unet': 'eunet3+', 'foundation': 'vit-tiny', 'fusion': 'paper'},
]
NONE, CONTEXT = 'unet/none/semantic', 'unet/context/vit-tiny/semantic'
SHUFFLED, RANDOM = 'unet/shuffled-context-image/vit-tiny/semantic', 'unet/context/vit-tiny:random/semantic'
PAPER = 'eunet3+/paper/vit-tiny/semantic'
# What an arm has above the first, in each image of each group.
GAINS = {NONE: 0.0, CONTEXT: 0.2, SHUFFLED: 0.0, RANDOM: 0.1, PAPER: -0.1}
COSTS = {
    'parameters': 2_000_000,
    'trained': 1_000_000,
    'macs': 3_000_000_000,
    'token_stride': None,
    'inference_seconds': 0.2,
    'inference_ratio': 1.0,
    'inference_mb': 50.0,
}
CONFIG = {'train_cfg': {'max_iters': 0}}
CALIBRATION = {'bins': [{'confidence': 0.5, 'frequency': 0.4, 'count': 10}], 'ece': 0.1, 'brier': 0.25}


def write_table(path, rows):
    with path.open('w', newline='') as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def write_run(root, run):
    """A run with one image of each group; the first group is the hardest, and gains go up from group to group."""
    folder = root / run.key
    (folder / 'test').mkdir(parents=True)
    values = [0.3 + 0.01 * number + GAINS[run.arm.name] * (1 + number / 10) for number in range(len(GROUPS))]
    rows = [
        {'id': f'{run.split} {group}', 'group': group} | dict.fromkeys(SCORES, value)
        for group, value in zip(GROUPS, values, strict=True)
    ]
    for name in ('per_image.csv', 'instances.csv'):
        write_table(folder / 'test' / name, rows)
    record = {'train_seconds': 60 + 60 * run.seed, 'test_seconds': 1.0, 'peak_mb': 500 + run.seed}
    record |= {'cached': False, 'weights_sha256': 'f00d' if run.arm.foundation else None}
    made = {'commit': 'abc', 'versions': {'torch': '2'}, 'hardware': 'a CPU'}
    (folder / 'run.json').write_text(json.dumps(record | made))
    inside_file(folder).write_text(json.dumps({'calibration': CALIBRATION, 'gates': []}))


@pytest.fixture
def made(tmp_path):
    """A study, its runs, and where they ran."""
    data = tmp_path / 'data'
    data.mkdir()
    write_meta(data, META)
    settings = dict(title='A study', data='synthetic', data_root=str(data), splits=['f0', 'f1'], seeds=[0, 1])
    study = make_study(settings | {'arms': ARMS})
    runs = [
        Run(arm, 'synthetic', split, seed, CONFIG, f'{number}-{split}-{seed}')
        for number, arm in enumerate(study.arms)
        for split in study.splits
        for seed in study.seeds
    ]
    for run in runs:
        write_run(tmp_path / 'runs', run)
    return study, runs, tmp_path / 'runs'


def results_of(study, runs, root):
    return study_results(study_record(study, runs, root, 'the command', lambda arm: COSTS), study_scores(runs, root))


@pytest.fixture
def results(made):
    return results_of(*made)


def diverge(root, run):
    """As the process of a run leaves it: no record, no scores."""
    folder = root / run.key
    for path in (folder / 'run.json', inside_file(folder), *(folder / 'test').glob('*')):
        path.unlink()
    record_divergence(folder, 'training diverged: the loss is not finite since step 7')


def test_an_arm_that_diverged_has_no_scores(made, results):
    study, runs, root = made
    for run in [run for run in runs if run.arm.name == PAPER][1:3]:
        diverge(root, run)
    # What an arm has scored in other runs is left out by the report.
    kept = [run for run in runs if run.arm.name != PAPER]
    record = study_record(study, runs, root, 'the command', lambda arm: COSTS)
    left = study_results(record, study_scores(kept, root))
    (data_set,), (before,) = left['data_sets'], results['data_sets']
    assert data_set['arms'] == [arm for arm in before['arms'] if arm['name'] != PAPER]
    assert PAPER not in {found['arm'] for found in data_set['comparisons']['dice']}
    assert f'{PAPER}: 2 of 4 runs diverged; it has no scores and is compared with nothing.' in data_set['conclusion']
    text = markdown_report(left)
    assert f'| `{PAPER}` | diverged | diverged | diverged |' in text
    assert f'- `{PAPER}` f0 seed 1: training diverged: the loss is not finite since step 7' in text
    assert '>diverged<' in study_page(left, {}, SCORES, COMPARED)
    json.dumps(left, allow_nan=False)


def test_without_the_first_arm_there_is_no_report(made):
    study, runs, root = made
    diverge(root, runs[0])
    with pytest.raises(UserError, match=f'{NONE}: 1 of 4 runs diverged'):
        results_of(study, runs, root)


DAMAGED = {
    'run.json': ['', '{"train_seconds": ', '[]', '{"train_seconds": "long"}'],
    'inside': ['', '{"gates": []}', '{"gates": 5, "calibration": {}}'],
    'test/per_image.csv': ['', 'id,dice\na', 'name,group\na,b\n'],
    'test/instances.csv': ['', 'id,group\nother,x\n'],
}


@pytest.mark.parametrize(('name', 'content'), [(name, text) for name, texts in DAMAGED.items() for text in texts])
def test_a_damaged_file_of_a_finished_run_is_named_with_what_to_do(made, tmp_path, name, content):
    folder = min((tmp_path / 'runs').iterdir())
    (inside_file(folder) if name == 'inside' else folder / name).write_text(content)
    with pytest.raises(UserError, match=f'{folder}.*; delete the folder {folder}') as caught:
        results_of(*made)
    assert '\n' not in str(caught.value)


def test_scores_of_another_checkpoint_are_not_those_of_the_run(made, tmp_path):
    """Somebody has tested another one with the folder of the run as the working folder."""
    folder = min((tmp_path / 'runs').iterdir())
    (folder / 'iter_0.pth').write_bytes(b'the last step')
    other = tmp_path / 'other.pth'
    other.write_bytes(b'other')
    write_tested(folder / 'test', other, {'data_root': 'data'}, ['metrics.json'])
    with pytest.raises(UserError, match=r'holds the scores of another other\.pth'):
        results_of(*made)


def test_text_of_others_is_no_html_in_a_report(results):
    evil = '<img src=x onerror=alert(1)>|`<script>`[click](javascript:alert(1))\n# a heading'
    (data_set,) = results['data_sets']
    data_set['groups'] = [evil, *data_set['groups'][1:]]
    for arm in data_set['arms']:
        arm['groups']['dice'][evil] = 0.5
    for place, key in ((results, 'title'), (data_set, 'data'), (data_set, 'source'), (data_set['arms'][0], 'name')):
        place[key] = evil
    data_set['conclusion'] = [evil]
    results['provenance']['data_digests'][evil] = '0'
    results['provenance']['command'] = f'```\n{evil}'
    html = MarkdownIt('commonmark').enable('table').render(markdown_report(results))
    assert '<img' not in html
    assert '<script' not in html
    assert 'href="javascript' not in html
    assert '<h1># a heading' not in html
    for table in html.split('<table>')[1:]:
        rows = table.split('</table>')[0].split('<tr>')[1:]
        assert len({row.count('<td') + row.count('<th>') for row in rows}) == 1


def arms_of(*groups):
    return make_study({'title': '', 'arms': list(groups)}).arms


def test_scores_are_means_over_groups(results):
    (data_set,) = results['data_sets']
    arms = {arm['name']: arm for arm in data_set['arms']}
    # 0.3 + 0.01 * 3.5, and 0.2 * 1.35 more.
    assert arms[NONE]['scores']['dice']['mean'] == pytest.approx(0.335)
    assert arms[CONTEXT]['scores']['miou']['mean'] == pytest.approx(0.605)
    assert arms[CONTEXT]['groups']['pq']['organ 7'] == pytest.approx(0.37 + 0.34)
    low, high = arms[NONE]['scores']['dice']['interval']
    assert low < 0.335 < high
    assert len(arms[NONE]['images']['dice']) == data_set['num_images'] == 16
    assert arms[NONE]['costs'] == COSTS | {'train_seconds': 90.0, 'train_mb': 501}


def test_each_arm_is_compared_with_its_own_baseline(results):
    (data_set,) = results['data_sets']
    found = {each['arm']: each for each in data_set['comparisons']['dice']}
    assert {each['baseline'] for each in found.values()} == {NONE}
    assert found[CONTEXT]['mean_difference'] == pytest.approx(0.27)
    assert found[CONTEXT]['verdict'] == 'a significant gain'
    assert found[SHUFFLED]['verdict'] == 'no significant difference'
    controls = [(each['arm'], each['baseline']) for each in data_set['controls']['dice']]
    assert controls == [(CONTEXT, SHUFFLED), (CONTEXT, RANDOM)]


def test_pairs_of_arms():
    arms = arms_of(
        {'unet': 'unet'},
        {'unet': 'unet', 'head': 'hover'},
        {'unet': 'eunet3+'},
        {'unet': ['unet', 'eunet3+', 'unet++'], 'foundation': 'vit-tiny', 'fusion': 'concat'},
    )
    assert fusion_pairs(arms) == [
        ('unet/concat/vit-tiny/semantic', NONE),
        ('eunet3+/concat/vit-tiny/semantic', 'eunet3+/none/semantic'),
    ]
    assert other_pairs(arms) == [
        ('unet/none/hover', NONE),
        ('eunet3+/none/semantic', NONE),
        ('unet++/concat/vit-tiny/semantic', NONE),
    ]
    assert control_pairs(arms) == []


def test_arms_of_other_parts_are_no_pairs():
    """Only what belongs to the fusion may differ: a wider U-Net, or another activation, would be part of the gain."""
    relu = {'parts': {'backbone': {'activation': 'relu'}}, 'label': 'relu'}
    fused = {'foundation': 'vit-tiny', 'fusion': 'context'}
    arms = arms_of({}, relu, fused, fused | relu, fused | {'weights': 'random'})
    plain, of_relu, random = (
        f'unet/context/vit-tiny{end}' for end in ('/semantic', '/semantic/relu', ':random/semantic')
    )
    assert fusion_pairs(arms) == [(plain, NONE), (of_relu, 'unet/none/semantic/relu'), (random, NONE)]
    assert control_pairs(arms) == [(plain, random)]


def test_a_fused_arm_may_come_first():
    fused, alone = arms_of({'foundation': 'vit-tiny', 'fusion': 'paper'}, {})
    assert fusion_pairs([fused, alone]) == [('unet/paper/vit-tiny/semantic', NONE)]
    assert other_pairs([fused, alone]) == []


def test_a_control_belongs_to_its_own_fusion_and_rate():
    """Of any fusion; the same U-Net without is that of the same schedule and rate."""
    fused = {'foundation': 'vit-tiny', 'fusion': ['concat', 'paper'], 'control': [None, 'image', 'zero']}
    arms = arms_of({'lr': [None, 0.1]}, fused, {'foundation': 'vit-tiny', 'fusion': 'concat', 'lr': 0.1})
    assert [is_control(arm) for arm in arms] == [False, False, *[False, True, True] * 2, False]
    assert control_pairs(arms) == [
        (f'unet/{fusion}/vit-tiny/semantic', f'unet/{fusion}:{control}/vit-tiny/semantic')
        for fusion in ('concat', 'paper')
        for control in ('image', 'zero')
    ]
    pairs = dict(fusion_pairs(arms))
    assert pairs.pop('unet/concat/vit-tiny/semantic/lr=0.1') == 'unet/none/semantic/lr=0.1'
    assert set(pairs.values()) == {'unet/none/semantic'}


def test_what_counts_as_a_control():
    fused = {'foundation': 'vit-tiny'}
    random = {'parts': {'foundation': {'weights': 'random'}}}
    fusions = ['paper', 'concat', 'zero-context', 'attention-only']
    arms = arms_of({}, fused | {'fusion': fusions}, fused | {'fusion': 'context', 'label': 'untrained'} | random)
    assert [is_control(arm) for arm in arms] == [False, False, False, True, True, True]


def test_the_conclusion_says_gain_groups_cost_and_controls(results):
    text = ' '.join(results['data_sets'][0]['conclusion'])
    # The two controls are no fusions, though the random one gains.
    assert (
        f'Dice of 1 fusion against the same U-Net without: 1 significantly higher: {CONTEXT} +0.270 (95 % interval '
        in text
    )
    assert f'{CONTEXT} has the higher Dice in 8 of 8 groups; the difference is largest in organ 7 (+0.340)' in text
    assert f'{CONTEXT} against its control {SHUFFLED}: Dice +0.270' in text
    assert '; what the encoder sees in the image counts.' in text
    assert '; what the encoder has learned counts.' in text
    assert f'{CONTEXT} costs 1.0 times the inference time of {NONE}' in text
    for score in ('Dice', 'AJI', 'PQ'):
        assert f'{score} of 1 arm against the first arm, {NONE}: 1 significantly lower: {PAPER} -0.135 (' in text
    assert '16 images of 8 groups, 2 seeds, 300 steps of 4 images and one learning rate for all arms.' in text
    assert 'No control' not in text
    assert 'hardware' not in text


def test_arms_that_are_trained_for_other_steps_are_told(results):
    results['data_sets'][0]['arms'][1]['changes'] = {'train_cfg.max_iters': 1000}
    assert '2 seeds, 300 to 1,000 steps of 4 images' in conclusions(results['data_sets'][0], results['study'])[-1]
    assert '300 to 1,000 steps of 4 images; splits' in markdown_report(results)


def test_an_arm_alone_is_told_with_its_scores(results):
    data_set = results['data_sets'][0]
    nothing = {score: [] for score in COMPARED}
    found = dict.fromkeys(('fusion_gains', 'comparisons', 'controls'), nothing)
    arm = data_set['arms'][0] | {
        'scores': {
            'dice': {'mean': 0.7, 'interval': [0.6, 0.8]},
            'aji': {'mean': 0.5, 'interval': [0.45, 0.55]},
            'pq': {'mean': 0.4, 'interval': None},
        }
    }
    assert conclusions(data_set | found | {'arms': [arm]}, results['study'])[0] == (
        f'One arm, {NONE}, with nothing to compare it with: Dice 0.700 (0.600 to 0.800), AJI 0.500 (0.450 to 0.550), '
        'PQ 0.400.'
    )


def test_a_conclusion_is_no_more_than_its_interval(results):
    """Nothing found; too few groups; no control; only controls; several machines; a remark."""
    (data_set,), study = results['data_sets'], results['study']

    def said(**changes):
        return conclusions({**data_set, **changes}, study)

    def changed(kind, **found):
        return {kind: {score: [each | found for each in data_set[kind][score]] for score in COMPARED}}

    unsure = {'significant': False, 'verdict': 'no significant difference'}
    lines = said(**changed('fusion_gains', **unsure), **changed('controls', **unsure))
    assert lines[0].startswith(
        'Dice of 1 fusion against the same U-Net without: no significant difference; the largest'
    )
    assert sum('is not shown' in line for line in lines) == 2
    assert not any('has the higher Dice' in line for line in lines)
    few = {'significant': False, 'verdict': 'no verdict, too few groups: 3', 'evidence': '+0.270'}
    assert said(**changed('fusion_gains', **few))[0] == (
        'Dice of 1 fusion against the same U-Net without: no verdict, too few groups: 3; the largest is that of '
        f'{CONTEXT} +0.270.'
    )
    assert f'No control of {CONTEXT} was run' in ' '.join(said(controls={score: [] for score in COMPARED}))
    only = said(arms=[arm | {'is_control': bool(arm['foundation'])} for arm in data_set['arms']])
    assert only[0].startswith('Dice of 3 controls against the same U-Net without: 2 significantly higher')
    assert not any('No control' in line for line in only)
    assert not data_set['mixed']
    assert 'versions or hardware' in said(mixed=True)[-1]
    assert conclusions(data_set, study | {'remark': 'Beware.'})[-1] == 'Beware.'


def test_the_markdown_has_every_arm_score_and_comparison(results):
    text = markdown_report(results)
    assert f'| `{CONTEXT}` | 0.605 (' in text
    assert text.count('significant gain') >= 2
    for title in SCORES.values():
        assert title in text
    for found in results['data_sets'][0]['comparisons']['pq']:
        assert f'- {found["words"]}' in text
    assert '| organ 7 | 0.370 | 0.710 |' in text
    assert 'Images: Who 2024, CC0.' in text
    assert 'Weights, SHA-256: vit-tiny f00d.' in text
    assert '## Data set' not in text
    widths = {line.count('|') for line in text.splitlines() if line.startswith('| arm | foreground')}
    assert widths == {len(SCORES) + 2}


def gate(edges, counts, mean, std, entropy):
    return {'level': 2, 'mean': mean, 'std': std, 'edges': edges, 'counts': counts, 'entropy': entropy}


def test_what_is_inside_runs_is_pooled():
    first = {'bins': [{'confidence': 0.05, 'frequency': 0.1, 'count': 30}], 'ece': 0.05, 'brier': 0.2}
    second = {
        'bins': [
            {'confidence': 0.01, 'frequency': 0.5, 'count': 10},
            {'confidence': 1.0, 'frequency': 1.0, 'count': 5},
        ],
        'ece': 0.15,
        'brier': 0.4,
    }
    gates = [gate([0, 1, 2], [2, 2], 1.0, 0.5, 0.8), gate([1, 2, 3], [0, 4], 2.5, 0.1, None)]
    pooled = pooled_inside([{'calibration': first, 'gates': gates[:1]}, {'calibration': second, 'gates': gates[1:]}])
    low, high = pooled['calibration']['bins']
    assert (low['confidence'], low['frequency'], low['count']) == (pytest.approx(0.04), pytest.approx(0.2), 40)
    assert high['count'] == 5
    assert pooled['calibration']['ece'] == pytest.approx(0.1)
    (found,) = pooled['gates']
    assert found['mean'] == pytest.approx(1.75)
    # Within: (0.25 + 0.01) / 2; between: 0.75 squared.
    assert found['std'] == pytest.approx(math.sqrt(0.13 + 0.5625))
    assert found['edges'] == [0, 1.5, 3]
    assert found['counts'] == [3, 5]
    assert found['entropy'] == 0.8


def test_a_histogram_keeps_its_sum():
    rng = np.random.default_rng(0)
    edges, target = np.sort(rng.normal(size=11)), np.linspace(-5, 5, 8)
    counts = rng.integers(0, 9, 10)
    assert rebinned(edges, counts, target).sum() == pytest.approx(counts.sum())
