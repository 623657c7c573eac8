import itertools
import math

import numpy as np
import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import bootstrap_interval, contingency_table, instance_counts, instance_scores, pool

SCORES = [0.1, 0.2, 0.4, 0.8]
GROUPS = ['a', 'a', 'b', 'c']


def test_interval_of_all_possible_resamples():
    # Three groups: 27 equally likely resamples, whose percentiles the drawn ones approach.
    groups = [[0.1, 0.2], [0.4], [0.8]]
    every = [np.mean([*itertools.chain(*drawn)]) for drawn in itertools.product(groups, repeat=3)]
    interval = bootstrap_interval(SCORES, GROUPS, np.mean, level=0.8, resamples=4000)
    np.testing.assert_allclose(interval, np.quantile(every, [0.1, 0.9]), atol=0.03)


def test_whole_groups_are_drawn():
    seen = set()
    bootstrap_interval([1, 2, 3], ['a', 'b', 'a'], lambda items: seen.add(tuple(sorted(items))) or 0.0)
    assert seen == {(1, 1, 3, 3), (1, 2, 3), (2, 2)}


def test_same_seed_same_interval():
    first = bootstrap_interval(SCORES, GROUPS, np.mean, seed=3)
    assert bootstrap_interval(SCORES, GROUPS, np.mean, seed=3) == first
    assert bootstrap_interval(SCORES, GROUPS, np.mean, seed=4, resamples=15) != first


@pytest.mark.slow
def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered, independent = 0, 0
    for _ in range(200):
        means = rng.normal(0, 1, 30)
        scores = (means[:, None] + rng.normal(0, 0.3, (30, 4))).ravel().tolist()
        groups = np.repeat(np.arange(30), 4).tolist()
        low, high = bootstrap_interval(scores, groups, np.mean, level=0.9, resamples=200)
        covered += low <= 0 <= high
        low, high = bootstrap_interval(scores, range(120), np.mean, level=0.9, resamples=200)
        independent += low <= 0 <= high
    assert 0.83 <= covered / 200 <= 0.96
    assert independent / 200 < 0.75  # images that resemble each other, taken for independent


def test_pooled_score():
    maps = [(np.array([[1, 1, 1, 0]]), np.array([[1, 1, 1, 1]])), (np.array([[0, 5, 5, 0]]), np.array([[0, 0, 0, 0]]))]
    counts = [instance_counts(contingency_table(*pair)) for pair in maps]
    low, high = bootstrap_interval(counts, ['a', 'b'], lambda images: instance_scores(pool(images))['pq'])
    # Drawn are two, one or none of the first image.
    assert (low, high) == (0.0, 0.75)


def test_nan_and_single_groups_have_no_interval():
    assert all(math.isnan(end) for end in bootstrap_interval([0.5, 0.6], ['a', 'a'], np.mean))
    assert all(math.isnan(end) for end in bootstrap_interval([math.nan] * 2, ['a', 'b'], np.mean))
    assert all(math.isnan(end) for end in bootstrap_interval([], [], np.mean))
    # A resample with the second group has no mean; of the others every one is 0.5.
    assert bootstrap_interval([0.5, math.nan], ['a', 'b'], np.mean) == (0.5, 0.5)


def test_one_group_for_each_item():
    with pytest.raises(UserError, match='2 items have 1 groups'):
        bootstrap_interval([0.5, 0.6], ['a'], np.mean)
