"""Means, intervals and verdicts. Each expected number comes from SciPy, from tables, or is worked out by hand."""

import doctest
import math

import numpy as np
import pytest
import scipy.stats

from mmgfnuc.errors import UserError
from mmgfnuc.studies import statistics
from mmgfnuc.studies.statistics import StudyScores, compare, fewest_groups, interval_of

SEEDS = (0, 1)
# Image -> fold and group.
IMAGES = {'a1': (0, 'liver'), 'a2': (0, 'liver'), 'b1': (1, 'lung')}
# Dice of each image in seed 0 and seed 1.
DICE = {
    'none': {'a1': (0.5, 0.7), 'a2': (0.2, 0.2), 'b1': (0.9, 0.7)},
    'paper': {'a1': (0.6, 0.8), 'a2': (0.4, 0.6), 'b1': (0.7, 0.7)},
}


def rows_of(table=DICE, images=IMAGES):
    return [
        {'arm': arm, 'fold': images[image][0], 'seed': seed, 'group': images[image][1], 'image': image, 'dice': value}
        for arm, scores in table.items()
        for image, values in scores.items()
        for seed, value in zip(SEEDS, values, strict=False)
    ]


def study_of(*arms, seeds=1, folds=1):
    """One image in each group; an arm is a list of the scores of the groups, or of (scores of the seeds)."""
    values = np.array(arms, float).reshape(len(arms), -1, seeds)
    groups = np.arange(values.shape[1])
    names = [f'arm{index}' for index in range(len(arms))]
    labels = (tuple(map(str, groups)), tuple(map(str, range(folds))), tuple(map(str, range(seeds))))
    return StudyScores('dice', tuple(names), *labels, values, groups, groups % folds, 0)


def compared(*differences, seeds=1):
    """Compare arms, by the differences of their groups, with the first."""
    rows = [np.array(row, float) for row in differences]
    study = study_of(np.full_like(rows[0], 0.5), *(0.5 + row for row in rows), seeds=seeds)
    return compare(study, [(arm, 'arm0') for arm in study.arms[1:]])


def test_doctests():
    outcome = doctest.testmod(statistics)
    assert outcome.attempted
    assert not outcome.failed


def test_group_means_average_seeds_then_images():
    scores = StudyScores.from_rows(rows_of(), 'dice')
    assert (scores.arms, scores.groups, scores.folds) == (('none', 'paper'), ('liver', 'lung'), ('0', '1'))
    # liver: (0.6 + 0.2) / 2 without fusion, (0.7 + 0.5) / 2 with it.
    np.testing.assert_allclose(scores.group_means(), [[0.4, 0.8], [0.6, 0.7]])


def test_comparison_takes_paired_differences_by_group():
    (found,) = compare(StudyScores.from_rows(rows_of(), 'dice'), [('paper', 'none')])
    assert (found.arm, found.baseline) == ('paper', 'none')
    assert found.by_group == pytest.approx({'liver': 0.2, 'lung': -0.1})
    assert found.mean_difference == pytest.approx(0.05)


def test_neither_order_of_rows_nor_text_for_numbers_matters():
    rows = rows_of()
    texts = [{key: str(value) for key, value in row.items()} for row in rows]
    none, paper = ([row for row in texts if row['arm'] == arm] for arm in DICE)
    tables = [StudyScores.from_rows(table, 'dice') for table in ([*none[::-1], *paper], rows)]
    assert compare(tables[0], [('paper', 'none')]) == compare(tables[1], [('paper', 'none')])


@pytest.mark.parametrize('undefined', [math.nan, '', None])
def test_image_without_a_score_somewhere_is_left_out_everywhere(undefined):
    rows = rows_of()
    rows[0]['dice'] = undefined
    scores = StudyScores.from_rows(rows, 'dice')
    assert scores.left_out == 1
    np.testing.assert_allclose(scores.group_means(), [[0.2, 0.8], [0.5, 0.7]])


def test_group_without_an_image_left_is_gone():
    rows = [row | ({'dice': ''} if row['group'] == 'lung' else {}) for row in rows_of()]
    scores = StudyScores.from_rows(rows, 'dice')
    assert (scores.groups, scores.folds) == (('liver',), ('0',))
    np.testing.assert_allclose(scores.group_means(), [[0.4], [0.6]])


def test_image_of_two_folds_counts_in_both():
    rows = rows_of()
    again = [row | {'fold': 1, 'dice': row['dice'] + 0.1} for row in rows if row['image'] == 'a1']
    scores = StudyScores.from_rows([*rows, *again], 'dice')
    # liver: a1 0.6 and 0.7, a2 0.2.
    assert scores.group_means()[0] == pytest.approx([0.5, 0.8])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda rows: [], 'table of scores is empty'),
        (lambda rows: [{'arm': 'none', 'dice': 1}], 'no column fold, seed, group, image; it has arm, dice'),
        (lambda rows: [*rows, rows[0]], "arm 'none' has image 'a1' twice in fold 0, seed 0"),
        (
            lambda rows: [*rows, rows[0] | {'fold': 2, 'group': 'lung'}],
            "image 'a1' is in the groups 'liver' and 'lung'",
        ),
        (lambda rows: rows[1:], "arm 'none' has no score of image 'a1' in fold 0, seed 0"),
        (lambda rows: [*rows, rows[0] | {'seed': 2}, rows[2] | {'seed': 2}], "arm 'none' has no fold 1, seed 2"),
        (
            lambda rows: [row for row in rows if row['arm'] == 'none' or row['fold'] == 0],
            "'paper' has no fold 1, seed 0",
        ),
        (lambda rows: [rows[0] | {'dice': 'high'}, *rows[1:]], "dice of image 'a1' is 'high'; give a finite number"),
        (lambda rows: [rows[0] | {'dice': math.inf}, *rows[1:]], "dice of image 'a1' is inf; give a finite number"),
        (lambda rows: [row | {'dice': ''} for row in rows], 'no image has a dice in every arm'),
    ],
)
def test_bad_tables_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        StudyScores.from_rows(change(rows_of()), 'dice')


def test_an_arm_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="no arm 'best'; choose one of none, paper"):
        compare(StudyScores.from_rows(rows_of(), 'dice'), [('paper', 'best')])


def test_equal_differences_stay_equal_in_binary_fractions():
    (found,) = compare(study_of([0.5, 0.3, 0.2, 0.7, 0.9], [0.6, 0.4, 0.3, 0.8, 0.8]), [('arm1', 'arm0')])
    assert list(found.by_group.values()) == [0.1, 0.1, 0.1, 0.1, -0.1]


def test_equal_arms_have_no_difference():
    (found,) = compared([0.0] * 6)
    assert (found.mean_difference, found.interval) == (0.0, (0.0, 0.0))
    assert found.verdict == 'no significant difference'


def test_each_arm_may_have_a_baseline_of_its_own():
    rows = np.linspace(0.01, 0.08, 8), np.linspace(0.03, 0.02, 8)
    study = study_of([0.5] * 8, *(0.5 + row for row in rows))
    first, second = compare(study, [('arm1', 'arm0'), ('arm2', 'arm1')])
    assert list(first.by_group.values()) == pytest.approx(rows[0])
    assert (second.baseline, list(second.by_group.values())) == ('arm1', pytest.approx(rows[1] - rows[0]))


@pytest.mark.parametrize('number', [1, 3])
def test_with_one_seed_the_interval_is_that_of_student_at_the_level_of_bonferroni(number):
    row = np.linspace(-0.02, 0.06, 9)
    expected = scipy.stats.t.interval(1 - 0.05 / number, 8, row.mean(), scipy.stats.sem(row))
    for found in compared(*[row] * number):
        assert found.interval == pytest.approx(expected)
        assert found.num_comparisons == number


def test_seeds_add_their_variance_with_a_quantile_of_its_own():
    by_group, by_network = np.linspace(0.1, 0.45, 8), np.array([[0.1, 0.2], [0.05, 0.2]])
    # From tables of t: 2.841 with 7 and 6.205 with 2 degrees of freedom. Variances: 0.015 over groups; 0.005, 0.01125.
    half = math.sqrt(2.841**2 * 0.015 / 8 + 6.205**2 * (0.005 + 0.01125) / 2)
    assert interval_of(by_group, by_network, 2) == pytest.approx((0.275 - half, 0.275 + half), rel=1e-3)


def test_luck_of_networks_is_weighed_as_groups_are():
    scores = StudyScores.from_rows(rows_of(), 'dice')
    shares = scores.network_shares(scores.values[1] - scores.values[0])
    # Liver has two images in fold 0, by seed 0.1 and 0.2, 0.1 and 0.4 better; lung one in fold 1, 0.2 worse and equal.
    np.testing.assert_allclose(shares, [[(0.1 + 0.2) / 4, (0.1 + 0.4) / 4], [-0.2 / 2, 0.0]], atol=1e-12)


@pytest.mark.parametrize('number', [1, 2, 5, 9, 30])
def test_an_interval_needs_groups_of_which_a_sign_test_could_find_something(number):
    groups = fewest_groups(number)
    smallest = [scipy.stats.binomtest(0, few).pvalue for few in (groups - 1, groups)]
    assert smallest[1] * number <= 0.05 < smallest[0] * number


def test_too_few_groups_have_no_interval_and_no_verdict():
    found, _ = compared([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])
    assert found.interval is None
    assert not found.significant
    assert found.in_words('Dice') == (
        'arm1: Dice +0.250 against arm0, better in 4 of 4 groups: no verdict, too few groups: 4 (2 comparisons '
        'would take 7).'
    )


def test_the_interval_that_is_shown_decides():
    row = np.linspace(0.01, 0.08, 8)
    gain, loss, unsure = compared(row, -row, row * [1, -1, 1, -1, 1, 1, -1, 1])
    low, high = gain.interval
    assert gain.in_words('Dice') == (
        f'arm1: Dice +0.045 (95 % interval {low:+.3f} to {high:+.3f}, simultaneous for 3 comparisons) against arm0, '
        'better in 8 of 8 groups: a significant gain. With one seed, the interval leaves out the luck of training.'
    )
    assert low > 0
    assert (loss.verdict, unsure.verdict) == ('a significant loss', 'no significant difference')
    assert unsure.interval[0] < 0 < unsure.interval[1]


def test_groups_that_agree_by_the_luck_of_one_network_are_no_gain():
    # Better on all groups, but in one of the two seeds only.
    (found,) = compared([(0.2 + 0.001 * group, -0.1) for group in range(10)], seeds=2)
    assert all(difference > 0 for difference in found.by_group.values())
    assert found.interval[0] < 0 < found.interval[1]
    assert found.in_words('Dice').endswith('better in 10 of 10 groups: no significant difference.')
