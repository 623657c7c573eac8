import doctest
import itertools
import math

import numpy as np
import pytest
import scipy.stats

from mmgfnuc.errors import UserError
from mmgfnuc.studies import paired_tests, statistics_ranks
from mmgfnuc.studies.paired_tests import (
    compare,
    holm,
    percentile_interval,
    rank_biserial,
    simultaneous_interval,
    smallest_wilcoxon_p,
    wilcoxon_p,
)
from mmgfnuc.studies.statistics import StudyScores

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


def study_with_differences(differences, *more):
    return study_of([0.5] * len(differences), *(0.5 + np.array(row) for row in (differences, *more)))


@pytest.mark.parametrize('module', [paired_tests, statistics_ranks])
def test_doctests(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted
    assert not outcome.failed


def test_group_means_average_seeds_then_images():
    scores = StudyScores.from_rows(rows_of(), 'dice')
    assert (scores.arms, scores.groups, scores.folds) == (('none', 'paper'), ('liver', 'lung'), ('0', '1'))
    # liver: (0.6 + 0.2) / 2 without fusion, (0.7 + 0.5) / 2 with it.
    np.testing.assert_allclose(scores.group_means(), [[0.4, 0.8], [0.6, 0.7]])


def test_comparison_takes_paired_differences_by_group():
    (found,) = compare(StudyScores.from_rows(rows_of(), 'dice'), 'none')
    assert (found.arm, found.baseline) == ('paper', 'none')
    assert found.by_group == pytest.approx({'liver': 0.2, 'lung': -0.1})
    assert found.mean_difference == pytest.approx(0.05)
    # Ranks 2 and -1 of 3.
    assert found.rank_biserial == pytest.approx(1 / 3)
    assert found.p == found.p_holm == 1.0
    assert found.smallest_p == 0.5


def test_neither_order_of_rows_nor_kind_of_cell_matters():
    rows = rows_of()
    texts = [{key: str(value) for key, value in row.items()} for row in rows]
    none, paper = ([row for row in texts if row['arm'] == arm] for arm in DICE)
    mixed = [*none[::-1], *paper]
    assert compare(StudyScores.from_rows(mixed, 'dice'), 'none') == compare(StudyScores.from_rows(rows, 'dice'), 'none')


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


def test_unknown_baseline_is_refused():
    with pytest.raises(UserError, match="no arm 'best'; choose one of none, paper"):
        compare(StudyScores.from_rows(rows_of(), 'dice'), 'best')


def test_single_arm_is_refused():
    with pytest.raises(UserError, match='there is only one arm'):
        compare(study_of([0.5, 0.6]), 'arm0')


def signed_rank_sums(differences):
    """W+ - W- under every assignment of signs, the observed one first; zeros are left out."""
    sizes = np.abs(differences[differences != 0])
    ranks = np.array([(sizes < size).sum() + ((sizes == size).sum() + 1) / 2 for size in sizes])
    observed = np.sign(differences[differences != 0]) @ ranks
    return observed, np.array([np.dot(signs, ranks) for signs in itertools.product((-1, 1), repeat=len(ranks))])


@pytest.mark.parametrize(
    'differences',
    [
        [0.1, 0.2, 0.3, 0.4, 0.5],
        [0.1, -0.2, 0.3, 0.4, 0.5, -0.6, 0.7],
        [0.1, 0.1, 0.1, -0.1, 0.3, 0.2, 0.2, 0.0],
        [0.0, 0.0, 0.2, -0.3, 0.4, 0.4, 0.5],
        [*range(-4, 0), *range(5, 15), 0],
        [-0.1, -0.2, -0.2, -0.5, 0.05, -0.7, -0.8, -0.9, -1.0, -1.1],
    ],
)
def test_wilcoxon_and_effect_size_are_those_of_their_definition(differences):
    differences = np.array(differences, float)
    observed, null = signed_rank_sums(differences)
    assert wilcoxon_p(differences) == pytest.approx(np.mean(np.abs(null) >= abs(observed) - 1e-9))
    assert rank_biserial(differences) == pytest.approx(observed / null.max())


def test_effect_size_agrees_with_the_statistic_of_scipy():
    differences = np.random.default_rng(0).normal(size=(4, 15))
    positive = [scipy.stats.wilcoxon(row, alternative='greater').statistic for row in differences]
    np.testing.assert_allclose(rank_biserial(differences), 2 * np.array(positive) / (15 * 16 / 2) - 1)


def test_equal_differences_stay_equal_in_binary_fractions():
    (found,) = compare(study_of([0.5, 0.3, 0.2, 0.7, 0.9], [0.6, 0.4, 0.3, 0.8, 0.8]), 'arm0')
    assert list(found.by_group.values()) == [0.1, 0.1, 0.1, 0.1, -0.1]
    # All ranks are 3.
    assert found.rank_biserial == pytest.approx(0.6)


def test_equal_arms_have_no_effect():
    (found,) = compare(study_with_differences([0.0] * 6), 'arm0')
    assert (found.p, found.rank_biserial, found.mean_difference) == (1.0, 0.0, 0.0)
    assert found.interval == found.corrected_interval == found.rank_biserial_interval == (0.0, 0.0)
    assert not found.significant


@pytest.mark.parametrize('num_groups', [1, 3, 7, 12])
def test_smallest_p_is_that_of_groups_that_all_agree(num_groups):
    assert smallest_wilcoxon_p(num_groups) == pytest.approx(wilcoxon_p(np.arange(1.0, num_groups + 1)))


@pytest.mark.parametrize('p_values', [[0.04], [0.01, 0.04, 0.03, 0.005], [0.02, 0.02, 0.02], [0.9, 0.6, 0.001, 0.04]])
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    """A hypothesis falls where every set that holds it falls, by its smallest p times its size."""
    indices = range(len(p_values))
    sets = [chosen for size in indices for chosen in itertools.combinations(indices, size + 1)]
    expected = [
        min(1, max(len(chosen) * min(p_values[i] for i in chosen) for chosen in sets if index in chosen))
        for index in indices
    ]
    assert holm(p_values) == pytest.approx(expected)


def test_each_arm_may_have_a_baseline_of_its_own():
    rows = np.linspace(0.01, 0.08, 8), np.linspace(0.03, 0.02, 8)
    scores = study_with_differences(*rows)
    against_first, against_second = compare(scores, [('arm1', 'arm0'), ('arm2', 'arm1')])
    assert against_first == compare(scores, 'arm0')[0]
    assert against_second.baseline == 'arm1'
    assert list(against_second.by_group.values()) == pytest.approx(rows[1] - rows[0])


def test_comparisons_are_corrected_for_all_arms():
    agreeing, mixed = np.linspace(0.01, 0.08, 8), np.linspace(0.01, 0.08, 8) * [1, -1, 1, -1, 1, 1, -1, 1]
    first, second = compare(study_with_differences(mixed, agreeing), 'arm0')
    assert (second.p, second.p_holm, second.smallest_p) == (2 / 256, 4 / 256, 4 / 256)
    assert first.p_holm == first.p == wilcoxon_p(mixed)
    assert second.significant
    assert not first.significant


@pytest.mark.parametrize('num_groups', [3, 12, 200])
def test_interval_is_that_of_student_where_resamples_are_normal(num_groups):
    deviation = 0.2
    # The bootstrap of a mean has the standard error of the population formula, sqrt(1 - 1 / N) times the right one.
    error = deviation / math.sqrt(num_groups)
    quantiles = (np.arange(1_000_000) + 0.5) / 1_000_000
    resampled = 0.1 + error * math.sqrt(1 - 1 / num_groups) * scipy.stats.norm.ppf(quantiles)
    low, high = percentile_interval(resampled, num_groups)
    expected = scipy.stats.t.interval(0.95, num_groups - 1, 0.1, error)
    # With three groups the percentile lies beyond the end of a million points.
    assert (low, high) == pytest.approx(expected, rel=0.1 if num_groups == 3 else 1e-3)


def test_verdict_with_one_seed_uses_the_interval_of_student_at_the_level_of_bonferroni():
    row = np.linspace(-0.02, 0.06, 9)
    expected = scipy.stats.t.interval(1 - 0.05 / 3, 8, row.mean(), scipy.stats.sem(row))
    for found in compare(study_with_differences(row, row, row), 'arm0'):
        assert found.corrected_interval == pytest.approx(expected)


def test_corrected_interval_adds_the_variance_of_seeds_with_a_quantile_of_its_own():
    by_group, by_network = np.array([0.1, 0.2, 0.3, 0.4]), np.array([[0.1, 0.2], [0.05, 0.15]])
    # From tables of t: 4.177 with 3 and 6.205 with 2 degrees of freedom. Variances 0.05 / 3 over groups, 0.005 by fold.
    half = math.sqrt(4.177**2 * 0.05 / 3 / 4 + 6.205**2 * (0.005 + 0.005) / 2)
    expected = pytest.approx((0.25 - half, 0.25 + half), rel=1e-3)
    assert simultaneous_interval(by_group, by_network, num_comparisons=2) == expected


def test_luck_of_networks_is_weighed_as_groups_are():
    (found,) = compare(StudyScores.from_rows(rows_of(), 'dice'), 'none')
    # Liver has two images in fold 0, by seed 0.1 and 0.2, 0.1 and 0.4 better; lung one in fold 1, 0.2 worse and equal.
    by_network = np.array([[(0.1 + 0.2) / 4, (0.1 + 0.4) / 4], [-0.2 / 2, 0.0]])
    expected = simultaneous_interval(np.array([0.2, -0.1]), by_network, num_comparisons=1)
    assert found.corrected_interval == pytest.approx(expected)


def test_one_group_has_no_interval():
    (found,) = compare(study_with_differences([0.1]), 'arm0')
    assert found.interval is None
    assert found.corrected_interval is None
    assert found.rank_biserial_interval is None
    assert not found.significant


def test_bootstrap_draws_whole_groups():
    values = np.array([[0.1], [0.3], [0.8]])
    scores = StudyScores(
        'dice', ('a',), ('g', 'h'), ('0',), ('0',), values[None], np.array([0, 0, 1]), np.zeros(3, int), 0
    )
    drawn = scores.resampled_group_means(values, 20_000)
    assert set(drawn.ravel()) == {0.2, 0.8}
    # Means 0.2, 0.5 and 0.8 with probabilities 1/4, 1/2 and 1/4.
    assert np.var(drawn.mean(axis=1)) == pytest.approx(0.3**2 / 2, rel=0.03)


def test_bootstrap_draws_the_seeds_of_a_fold_for_all_its_groups():
    # Seed 0 is 0.1 better than seed 1 on every group: luck of the two networks.
    scores = study_of([(0.6, 0.5)] * 4, seeds=2)
    drawn = scores.resampled_group_means(scores.values[0], 20_000)
    assert (np.ptp(drawn, axis=1) == 0).all()
    # The standard error of a mean of 0.5 and 0.6: the sample deviation, 0.1 / sqrt(2), by sqrt(2).
    assert np.std(drawn[:, 0]) == pytest.approx(0.05, rel=0.03)


def test_bootstrap_draws_the_seeds_of_each_fold_apart():
    scores = study_of([(0.6, 0.5)] * 4, seeds=2, folds=2)
    drawn = scores.resampled_group_means(scores.values[0], 2000)
    assert 0.3 < np.mean(np.ptp(drawn, axis=1) > 0) < 0.9


def test_bootstrap_is_that_of_its_seed():
    scores = study_with_differences(np.linspace(-0.02, 0.06, 9))
    assert compare(scores, 'arm0', seed=1) == compare(scores, 'arm0', seed=1)
    assert compare(scores, 'arm0', seed=1) != compare(scores, 'arm0', seed=2)


def test_interval_of_an_arm_does_not_depend_on_the_other_arms():
    row = np.linspace(-0.02, 0.06, 9)
    (alone,), (first, _) = (compare(study_with_differences(*rows), 'arm0') for rows in ([row], [row, -row]))
    assert alone.interval == first.interval
    assert alone.rank_biserial_interval == first.rank_biserial_interval


def test_sentence_of_a_gain_and_of_a_loss():
    row = np.linspace(0.01, 0.08, 8)
    gain, loss = compare(study_with_differences(row, -row), 'arm0')
    assert gain.in_words('Dice').startswith('arm1: Dice +0.045 against arm0 (95% interval +0.0')
    assert gain.in_words('Dice').endswith(
        'better in 8 of 8 groups, rank-biserial r +1.00, p = 0.016 (Wilcoxon over groups, Holm-corrected for 2 '
        'comparisons): a significant gain. With one seed, the luck of the training runs is not in these figures.'
    )
    assert ': a significant loss.' in loss.in_words('Dice')


def test_sentence_says_that_nothing_was_found():
    (found,) = compare(study_with_differences([0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8]), 'arm0')
    assert '(Wilcoxon over groups): no significant difference.' in found.in_words('AJI')
    assert 'narrow' not in found.in_words('AJI')


def test_sentence_says_that_too_few_groups_could_find_nothing():
    found, _ = compare(study_with_differences([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]), 'arm0')
    assert (
        'no significant difference; with 4 groups and 2 comparisons the smallest p that can occur is 0.25, '
        'so none could be found.'
    ) in found.in_words('Dice')
    assert 'too narrow with 4 groups)' in found.in_words('Dice')


def test_groups_that_agree_by_the_luck_of_one_network_are_no_gain():
    # Better on all groups, but in one of the two seeds only.
    gains = [(0.2 + 0.001 * group, -0.1) for group in range(10)]
    (found,) = compare(study_of(np.full((10, 2), 0.5), 0.5 + np.array(gains), seeds=2), 'arm0')
    assert found.p < 0.01
    assert found.interval[0] < 0 < found.interval[1]
    assert found.corrected_interval[0] < found.interval[0]
    assert not found.significant
    assert found.in_words('Dice').endswith(
        ': no significant difference; the groups agree, but the interval of the mean, corrected for 1 comparison and 2 '
        'seeds, includes 0.'
    )
