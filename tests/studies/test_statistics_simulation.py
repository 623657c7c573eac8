"""Studies drawn from a known model: how often is a difference found that is not there, or not found that is?

The score of an image is the sum of what its group, the image, the arm on this group, the network (of an arm, fold and
seed) and chance add. Bounds hold a binomial count with probability 0.999.
"""

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp

from mmgfnuc.studies.statistics import StudyScores, compare

STUDIES = 200
ARM_ON_GROUP = 0.03


def studies(gains, num_groups=12, network=0.0, seeds=2, folds=3, images=6, draw=np.random.Generator.standard_normal):
    """Studies whose arms are better than the first by `gains`, with strong effects of groups and images."""
    rng = np.random.default_rng(0)
    group_of = np.repeat(np.arange(num_groups), images)
    fold_of = group_of % folds
    arms = len(gains) + 1
    names = [tuple(map(str, range(count))) for count in (arms, num_groups, folds, seeds)]
    for _ in range(STUDIES):
        by_image = rng.normal(0, 0.1, num_groups)[group_of] + rng.normal(0, 0.1, len(group_of))
        by_arm = np.array([0, *gains])[:, None] + ARM_ON_GROUP * draw(rng, size=(arms, num_groups))[:, group_of]
        by_network = rng.normal(0, network, (arms, folds, seeds))[:, fold_of]
        chance = rng.normal(0, 0.02, (arms, len(group_of), seeds))
        values = by_image[None, :, None] + by_arm[:, :, None] + by_network + chance
        yield StudyScores('dice', *names, values, group_of, fold_of, 0)


def compared(*args, **kwargs):
    return [compare(study, [(arm, '0') for arm in study.arms[1:]]) for study in studies(*args, **kwargs)]


def most(rate):
    """Largest count of studies that is in keeping with a rate."""
    return binom.ppf(0.999, STUDIES, rate)


def test_false_positives_are_many_where_images_count_as_independent():
    differences = [(study.values[1] - study.values[0]).mean(axis=1) for study in studies([0.0])]
    assert sum(ttest_1samp(row, 0).pvalue <= 0.05 for row in differences) > 0.3 * STUDIES


def test_luck_of_networks_makes_false_positives_where_groups_count_as_independent():
    found = [comparison for (comparison,) in compared([0.0], num_groups=30, network=0.015)]
    p_values = [ttest_1samp(list(comparison.by_group.values()), 0).pvalue for comparison in found]
    assert sum(p <= 0.05 for p in p_values) > most(0.05)
    assert sum(comparison.significant for comparison in found) <= most(0.05)


@pytest.mark.parametrize(
    ('network', 'folds', 'seeds'), [(0.0, 3, 2), (0.03, 3, 2), (0.06, 3, 2), (0.03, 1, 2), (0.03, 1, 3)]
)
def test_no_arm_of_several_is_found_better_too_often(network, folds, seeds):
    found = compared([0.0] * 8, num_groups=16, network=network, folds=folds, seeds=seeds)
    assert sum(any(comparison.significant for comparison in study) for study in found) <= most(0.05)


@pytest.mark.parametrize('draw', [np.random.Generator.standard_exponential, lambda rng, size: rng.standard_t(3, size)])
def test_nor_where_groups_are_far_from_normal(draw):
    found = compared([0.0] * 8, num_groups=16, draw=draw)
    assert sum(any(comparison.significant for comparison in study) for study in found) <= most(0.05)


@pytest.mark.parametrize(('num_groups', 'network'), [(12, 0.0), (12, 0.02), (6, 0.0)])
def test_interval_holds_the_true_difference(num_groups, network):
    found = [comparison.interval for (comparison,) in compared([0.04], num_groups=num_groups, network=network)]
    assert sum(not low <= 0.04 <= high for low, high in found) <= most(0.05)


@pytest.mark.parametrize(('network', 'seeds'), [(0.005, 2), (0.015, 2), (0.03, 3)])
def test_real_difference_of_one_arm_of_several_is_found(network, seeds):
    found = compared([0.1, *[0.0] * 7], num_groups=16, network=network, seeds=seeds)
    assert sum(study[0].significant and study[0].mean_difference > 0 for study in found) > 0.8 * STUDIES


def test_interval_narrows_with_groups():
    widths = [np.mean([np.ptp(c.interval) for (c,) in compared([0.0], num_groups=groups)]) for groups in (8, 32)]
    # By sqrt(4), and a little more, as t is larger with few groups.
    assert 2 < widths[0] / widths[1] < 2.6
