import pytest

from mmgfnuc.analysis.comparison import comparison_table, comparisons, differences, verdict
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


BASE = record((0, 0.60, 0.70, 0.50), (1, 0.64, 0.72, 0.56))


def test_differences_are_taken_seed_by_seed_whatever_their_order():
    by_seed, by_group = differences(record((1, 0.70, 0.71, 0.69), (0, 0.62, 0.72, 0.52)), BASE)
    assert by_seed == pytest.approx([0.02, 0.06])
    assert by_group['liver'] == pytest.approx([0.02, -0.01])
    assert by_group['lung'] == pytest.approx([0.02, 0.13])


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
        differences(arm, BASE)


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
