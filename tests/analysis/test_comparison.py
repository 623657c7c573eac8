import pytest

from mmgfnuc.analysis.comparison import comparison_table, comparisons, differences, verdict
from mmgfnuc.analysis.tables import INSTANCE_COLUMNS
from mmgfnuc.errors import UserError


def record(*runs, baseline=None, title='A study', steps=7):
    """Each run is (seed, Dice, Dice on the liver, Dice on the lung)."""
    return {
        'title': title,
        'commands': [f'python tools/train.py {baseline or "base"}.py'],
        'hardware': 'a CPU',
        'data': {'images': 3, 'groups': ['liver', 'lung'], 'citation': 'Who 2024', 'licence': 'CC BY'},
        'picture': None,
        'remark': '',
        'baseline': baseline,
        'steps': steps,
        'otsu': {'dice': 0.5},
        'runs': [
            {
                'seed': seed,
                'scores': {
                    'dice': dice,
                    'dice_pooled': dice + 0.05,
                    'groups': {'liver': {'dice': liver}, 'lung': {'dice': lung}},
                },
            }
            for seed, dice, liver, lung in runs
        ],
    }


def with_instances(made, *ajis):
    """Add to each run (AJI, AJI on the liver, AJI on the lung); every PQ is 0.1 below the AJI."""
    for run, (aji, liver, lung) in zip(made['runs'], ajis, strict=True):
        run['instances'] = {
            **dict.fromkeys(INSTANCE_COLUMNS, 0.3),
            **dict.fromkeys(['num_truth', 'num_predicted', 'missed', 'invented', 'merged', 'split'], 5),
            **scores_of(aji),
            'groups': {'liver': scores_of(liver), 'lung': scores_of(lung)},
            'intervals': {'level': 0.95, 'groups': 2, 'scores': dict.fromkeys(INSTANCE_COLUMNS)},
        }
        run['scores']['intervals'] = {'level': 0.95, 'groups': 2, 'scores': {'dice': None}}
    return made


def scores_of(aji):
    return {'aji': aji, 'aji_pooled': aji + 0.05, 'pq': aji - 0.1, 'pq_pooled': aji - 0.05}


BASE = record((0, 0.60, 0.70, 0.50), (1, 0.64, 0.72, 0.56))


def test_differences_are_taken_seed_by_seed_whatever_their_order():
    by_seed, by_group = differences(record((1, 0.70, 0.71, 0.69), (0, 0.62, 0.72, 0.52)), BASE, 'dice')
    assert by_seed == pytest.approx([0.02, 0.06])
    assert by_group['liver'] == pytest.approx([0.02, -0.01])
    assert by_group['lung'] == pytest.approx([0.02, 0.13])


def test_differences_of_nuclei_are_those_of_their_report():
    arm = with_instances(record((1, 0, 0, 0), (0, 0, 0, 0)), (0.50, 0.60, 0.40), (0.30, 0.40, 0.20))
    base = with_instances(record((0, 0, 0, 0), (1, 0, 0, 0)), (0.35, 0.30, 0.40), (0.40, 0.45, 0.35))
    for score in ('aji', 'pq'):
        by_seed, by_group = differences(arm, base, score)
        assert by_seed == pytest.approx([-0.05, 0.10])
        assert by_group == {'liver': pytest.approx([0.10, 0.15]), 'lung': pytest.approx([-0.20, 0.05])}


@pytest.mark.parametrize(
    ('by_seed', 'lung', 'expected'),
    [
        ([0.1, 0.2], [0.1, 0.1], 'gain'),
        ([-0.1, -0.2], [-0.1, -0.1], 'loss'),
        ([0.1, 0.2], [0.1, -0.1], 'no clear difference'),
        ([0.1, -0.2], [0.1, 0.1], 'no clear difference'),
        ([0.0, 0.2], [0.1, 0.1], 'no clear difference'),
    ],
)
def test_a_gain_needs_one_sign_in_every_seed_and_group(by_seed, lung, expected):
    assert verdict(by_seed, {'lung': lung}) == expected


def test_arms_are_gathered_under_their_baseline():
    records = {'b': BASE, 'x': record(baseline='b'), 'alone': record(), 'y': record(baseline='b')}
    assert comparisons(records) == {'b': ['x', 'y']}


def test_a_baseline_that_is_missing_is_named():
    with pytest.raises(UserError, match="'x' is compared with 'b', which is not there"):
        comparisons({'x': record(baseline='b')})


@pytest.mark.parametrize(
    ('arm', 'message'),
    [
        (record((0, 0.6, 0.7, 0.5)), r'differ in seeds: \[0\] and \[0, 1\]'),
        (record((0, 0.6, 0.7, 0.5), (1, 0.6, 0.7, 0.5), steps=8), 'differ in steps: 8 and 7'),
    ],
)
def test_unequal_arms_are_refused(arm, message):
    with pytest.raises(UserError, match=message):
        differences(arm, BASE, 'dice')


def test_the_table_says_what_came_out():
    arm = record((0, 0.62, 0.72, 0.52), (1, 0.70, 0.73, 0.67), baseline='b')
    worse = record((0, 0.50, 0.60, 0.40), (1, 0.70, 0.73, 0.67), baseline='b')
    text = comparison_table({'b': BASE, 'fused': arm, 'other': worse}, 'b', ['fused', 'other'])
    lines = text.splitlines()
    assert '| arm | Dice | pooled Dice | difference | on liver | on lung |  |' in lines
    assert '| `b` | 0.620 (0.600 to 0.640) | 0.670 (0.650 to 0.690) |  |  |  |  |' in lines
    scores = '0.660 (0.620 to 0.700) | 0.710 (0.670 to 0.750)'
    assert f'| `fused` | {scores} | +0.040 (+0.020 to +0.060) | +0.015 | +0.065 | gain |' in lines
    assert [line.split('|')[-2].strip() for line in lines if line.startswith('| `other`')] == ['no clear difference']
    assert 'Seeds 0, 1' in text
    assert 'python tools/train.py base.py\npython tools/train.py b.py' in text


def test_arms_with_instance_scores_are_compared_by_aji_and_pq_too():
    base = with_instances(record((0, 0.60, 0.70, 0.50)), (0.40, 0.50, 0.30))
    arm = with_instances(record((0, 0.62, 0.69, 0.55), baseline='b'), (0.46, 0.51, 0.41))
    lines = comparison_table({'b': base, 'hover': arm}, 'b', ['hover']).splitlines()
    assert [line for line in lines if line.startswith('| arm |')] == [
        f'| arm | {score} | pooled {score} | difference | on liver | on lung |  |' for score in ('Dice', 'AJI', 'PQ')
    ]
    assert [line for line in lines if line.startswith('| `hover` |')][:3] == [
        '| `hover` | 0.620 | 0.670 | +0.020 | -0.010 | +0.050 | no clear difference |',
        '| `hover` | 0.460 | 0.510 | +0.060 | +0.010 | +0.110 | gain |',
        '| `hover` | 0.360 | 0.410 | +0.060 | +0.010 | +0.110 | gain |',
    ]
    assert [line for line in lines if line.startswith('- `')] == [
        f'- `{name}`: of 5 true nuclei 0 are matched and 5 missed; of 5 predicted ones 5 are invented. Predicted '
        'nuclei that merge true ones: 5; true ones split: 5.'
        for name in ('b', 'hover')
    ]
    assert any('Differences are those of the per-image Dice, AJI, PQ to' in line for line in lines)
    assert any(' significance. Seed 0. 7 steps, ' in line for line in lines)


def test_one_arm_without_instance_scores_leaves_the_dice_alone():
    base = with_instances(record((0, 0.60, 0.70, 0.50)), (0.40, 0.50, 0.30))
    text = comparison_table({'b': base, 'x': record((0, 0.62, 0.72, 0.52), baseline='b')}, 'b', ['x'])
    assert '| `x` | 0.620 | 0.670 | +0.020 | +0.020 | +0.020 | gain |' in text
    assert 'AJI' not in text
