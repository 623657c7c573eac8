import numpy as np
import pytest
import scipy.stats

from mmgfnuc.errors import UserError
from mmgfnuc.studies.statistics import StudyScores
from mmgfnuc.studies.statistics_ranks import cliques, nemenyi_difference, rank_arms

# Ranks of C4.5 and its variants on 14 data sets: Demsar, J. Mach. Learn. Res. 7 2006, table 6.
DEMSAR = {
    'C4.5': [4, 1, 4, 4, 4, 1, 3, 2.5, 4, 2.5, 4, 3, 4, 3],
    'C4.5+m': [3, 2, 1, 1, 2, 2.5, 2, 2.5, 3, 2.5, 2.5, 2, 1, 1],
    'C4.5+cf': [2, 3, 2, 3, 3, 4, 4, 4, 2, 2.5, 1, 4, 2, 4],
    'C4.5+m+cf': [1, 4, 3, 2, 1, 2.5, 1, 1, 1, 2.5, 2.5, 1, 3, 2],
}
# The same, table 5(a).
DEMSAR_Q = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


def study_of(table):
    """Name of each arm -> scores of the groups."""
    values = np.array(list(table.values()), float)[:, :, None]
    groups = np.arange(values.shape[1])
    return StudyScores('dice', tuple(table), tuple(map(str, groups)), ('0',), ('0',), values, groups, groups * 0, 0)


def test_ranks_and_critical_difference_are_those_of_demsars_example():
    found = rank_arms(study_of({arm: [-rank for rank in ranks] for arm, ranks in DEMSAR.items()}))
    expected = {'C4.5+m+cf': 1.964, 'C4.5+m': 2.000, 'C4.5+cf': 2.893, 'C4.5': 3.143}
    assert list(found.average_ranks) == list(expected)
    assert found.average_ranks == pytest.approx(expected, abs=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert found.friedman_p < 0.05
    assert found.num_groups == 14
    # Best and worst are 1.18 apart: Nemenyi's test tells nothing apart, as the paper says.
    assert found.cliques == (tuple(expected),)


@pytest.mark.parametrize(('num_arms', 'q'), DEMSAR_Q.items())
def test_critical_difference_has_the_published_quantiles(num_arms, q):
    num_groups = 10
    difference = q * (num_arms * (num_arms + 1) / (6 * num_groups)) ** 0.5
    assert nemenyi_difference(num_arms, num_groups) == pytest.approx(difference, rel=1e-3)


def test_friedman_is_that_of_its_formula():
    scores = np.random.default_rng(0).random((4, 9)) + np.array([[0], [0.2], [0.4], [0.4]])
    found = rank_arms(study_of(dict(zip('abcd', scores, strict=True))))
    ranks = np.array([found.average_ranks[arm] for arm in 'abcd'])
    statistic = 12 * 9 / (4 * 5) * ((ranks**2).sum() - 4 * 5**2 / 4)
    assert found.friedman_p == pytest.approx(scipy.stats.chi2.sf(statistic, 3))


def test_arms_that_differ_clearly_stand_in_separate_cliques():
    base = np.linspace(0.3, 0.5, 30)
    arms = {'worst': base, 'best': base + 0.4, 'good': base + 0.39, 'bad': base + 0.01}
    arms['good'][:14] += 0.02
    arms['bad'][:14] -= 0.02
    assert rank_arms(study_of(arms)).cliques == (('best', 'good'), ('bad', 'worst'))


def test_nothing_is_told_apart_where_friedman_finds_nothing():
    row = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    found = rank_arms(study_of({'a': row, 'b': row, 'c': row}))
    assert found.friedman_p == 1
    assert found.average_ranks == {'a': 2, 'b': 2, 'c': 2}
    assert found.cliques == (('a', 'b', 'c'),)


def test_ranks_further_apart_than_the_difference_need_friedman_too():
    middle = [[2, 7, 4], [3, 6, 7], [4, 5, 2], [5, 4, 6], [6, 3, 3], [7, 2, 5]]
    scores = np.array([[1, 1, 1], *middle, [8, 8, 8]])
    found = rank_arms(study_of(dict(zip('abcdefgh', scores, strict=True))))
    assert found.average_ranks['a'] - found.average_ranks['h'] > found.critical_difference
    assert found.friedman_p > 0.05
    assert found.cliques == (tuple(found.average_ranks),)


@pytest.mark.parametrize(
    ('ranks', 'expected'),
    [
        ({'a': 1, 'b': 2, 'c': 3}, ()),
        ({'a': 1, 'b': 1.9, 'c': 3}, (('a', 'b'),)),
        ({'a': 1, 'b': 1.5, 'c': 1.9, 'd': 2.4, 'e': 4}, (('a', 'b', 'c'), ('b', 'c', 'd'))),
        ({'a': 1, 'b': 1, 'c': 1}, (('a', 'b', 'c'),)),
    ],
)
def test_cliques_span_less_than_the_difference_and_are_the_largest(ranks, expected):
    assert cliques(ranks, 1.0) == expected


def test_two_arms_have_no_rank_table():
    with pytest.raises(UserError, match='2 arms; ranks need at least 3'):
        rank_arms(study_of({'a': [0.1], 'b': [0.2]}))
