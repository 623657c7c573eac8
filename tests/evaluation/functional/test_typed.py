import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import (
    bpq,
    contingency_table,
    instance_counts,
    mean_over_tissues,
    mpq,
    mpq_plus,
    nucleus_types,
    typed_counts,
    typed_pq,
)

from .label_maps import IDS, iou, label_map_pairs, nuclei

NUM_TYPES = 3
TYPINGS = st.lists(st.integers(0, NUM_TYPES), min_size=len(IDS), max_size=len(IDS)).map(
    lambda types: dict(zip(IDS, types, strict=True))
)
SETS = st.lists(st.tuples(label_map_pairs(), TYPINGS, TYPINGS), min_size=1, max_size=3)


def counts_of(maps, predicted_typing, truth_typing):
    table = contingency_table(*maps)
    predicted = np.array([predicted_typing[name] for name in table.predicted_ids.tolist()], int)
    truth = np.array([truth_typing[name] for name in table.truth_ids.tolist()], int)
    return typed_counts(table, predicted, truth, NUM_TYPES)


def stats_of_one_type(maps, predicted_typing, truth_typing, kind):
    """Cut both maps by type, as CoNIC and PanNuke do: TP, FP, FN and sum of IoU."""
    prediction, target = maps
    predicted = {name: pixels for name, pixels in nuclei(prediction).items() if predicted_typing[name] == kind}
    truth = {name: pixels for name, pixels in nuclei(target).items() if truth_typing[name] == kind}
    hits = [value for t in truth.values() for p in predicted.values() if (value := iou(t, p)) > 0.5]
    return np.array([len(hits), len(predicted) - len(hits), len(truth) - len(hits), sum(hits)])


def pq_of(stats):
    tp, fp, fn, total = stats
    return total / (tp + fp / 2 + fn / 2) if tp + fp + fn else math.nan


@given(SETS)
@settings(max_examples=100, deadline=None)
def test_random_sets_by_definition(images):
    stats = np.array([[stats_of_one_type(*image, kind) for kind in (1, 2, 3)] for image in images])
    counts = [counts_of(*image) for image in images]
    per_type = [pq_of(of_type) for of_type in stats.sum(axis=0)]
    np.testing.assert_allclose(typed_pq(sum(counts)), per_type, atol=1e-12)
    present = [value for value in per_type if not math.isnan(value)]
    assert mpq_plus(sum(counts)) == pytest.approx(np.mean(present) if present else math.nan, abs=1e-12, nan_ok=True)
    for image_counts, of_image in zip(counts, stats, strict=True):
        in_truth = [pq_of(of_type) for of_type in of_image if of_type[0] + of_type[2]]
        expected = np.mean(in_truth) if in_truth else math.nan
        assert mpq(image_counts) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(label_map_pairs())
@settings(max_examples=50, deadline=None)
def test_bpq_is_the_mpq_of_one_type(maps):
    """As its source computes it; no score where the truth is empty."""
    table = contingency_table(*maps)
    of_one_type = mpq(typed_counts(table, np.ones_like(table.predicted_ids), np.ones_like(table.truth_ids), 1))
    assert bpq(instance_counts(table)) == pytest.approx(of_one_type, abs=1e-12, nan_ok=True)
    assert math.isnan(of_one_type) == (len(table.truth_ids) == 0)


def test_hand_computed_types():
    # 1 is right (IoU 1), 2 has the wrong type (an error of both types), 3 is right (IoU 2/3), 4 has no type.
    table = contingency_table(np.array([[1, 1, 0, 2, 0, 3, 3, 0, 4]]), np.array([[1, 1, 0, 2, 0, 3, 3, 3, 4]]))
    counts = typed_counts(table, np.array([1, 2, 1, 1]), np.array([1, 1, 1, 0]), num_types=3)
    np.testing.assert_allclose(counts, [[2, 1 + 2 / 3, 3, 3], [0, 0, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(typed_pq(counts), [(1 + 2 / 3) / 3, 0, math.nan])
    assert mpq_plus(counts) == pytest.approx((1 + 2 / 3) / 6, abs=1e-15)
    # Type 2 is a false positive, which mPQ does not see.
    assert mpq(counts) == pytest.approx((1 + 2 / 3) / 3, abs=1e-15)


def test_nothing_typed_has_no_score():
    counts = np.zeros((2, 4))
    assert math.isnan(mpq(counts))
    assert math.isnan(mpq_plus(counts))


def test_types_outside_the_range_are_refused():
    table = contingency_table(np.array([[1]]), np.array([[1]]))
    with pytest.raises(UserError, match='types of nuclei are 4 to 4, allowed are 0 to 3'):
        typed_counts(table, np.array([4]), np.array([1]), NUM_TYPES)
    with pytest.raises(UserError, match='types of nuclei are -1 to -1'):
        typed_counts(table, np.array([1]), np.array([-1]), NUM_TYPES)


@given(label_map_pairs(), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_type_of_a_nucleus_is_that_of_most_of_its_pixels(maps, seed):
    label_map = maps[1]
    type_map = np.random.default_rng(seed).integers(0, NUM_TYPES + 1, label_map.shape)
    expected = []
    for pixels in nuclei(label_map).values():
        votes = [sum(type_map[pixel] == kind for pixel in pixels) for kind in range(1, NUM_TYPES + 1)]
        expected.append(votes.index(max(votes)) + 1 if any(votes) else 0)
    ids = np.array(list(nuclei(label_map)), int)
    assert nucleus_types(label_map, type_map, ids).tolist() == expected
    assert nucleus_types(label_map, type_map, ids[1::2]).tolist() == expected[1::2]


def test_mean_over_tissues():
    values = [0.1, 0.3, math.nan, 0.8, math.nan]
    assert mean_over_tissues(values, ['a', 'a', 'a', 'b', 'c']) == pytest.approx((0.2 + 0.8) / 2, abs=1e-15)
    assert mean_over_tissues(values, [0] * 5) == pytest.approx(0.4, abs=1e-15)
    assert math.isnan(mean_over_tissues([math.nan], ['a']))
    assert math.isnan(mean_over_tissues([], []))
