import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.metrics import r2_score

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import (
    centroids,
    contingency_table,
    count_r2,
    detection_f1,
    detection_matrix,
    detection_radius,
    match_points,
    type_f1,
)

from .label_maps import label_map_pairs

POINTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=5).map(
    lambda points: np.array(points, float).reshape(-1, 2)
)


@given(label_map_pairs())
@settings(max_examples=50, deadline=None)
def test_centroids_are_centres_of_mass(maps):
    prediction, target = maps
    ids = contingency_table(prediction, target).truth_ids
    expected = [center_of_mass(target == name) for name in ids]
    np.testing.assert_allclose(centroids(target, ids), np.reshape(expected, (-1, 2)), atol=1e-12)


def test_centroids_of_some_nuclei():
    label_map = np.array([[9, 9, 0, 4], [9, 9, 7, 4]], np.uint16)
    np.testing.assert_array_equal(centroids(label_map, np.array([4, 9])), [[0.5, 3], [0.5, 0.5]])


@given(POINTS, POINTS, st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_most_pairs_at_the_smallest_distance(predicted, truth, radius):
    rows, columns = match_points(predicted, truth, radius)
    distances = cdist(truth, predicted) if len(truth) and len(predicted) else np.zeros((len(truth), len(predicted)))
    assert len(set(rows)) == len(set(columns)) == len(rows)
    few, many = sorted((len(truth), len(predicted)))
    best = (0, 0.0)
    for order in itertools.permutations(range(many), few):
        pairs = [(i, j) if len(truth) <= len(predicted) else (j, i) for i, j in enumerate(order)]
        near = [distances[pair] for pair in pairs if distances[pair] <= radius]
        best = min(best, (-len(near), sum(near)))
    assert (distances[rows, columns] <= radius).all()
    assert len(rows) == -best[0]
    assert distances[rows, columns].sum() == pytest.approx(best[1], abs=1e-9)


def test_as_many_pairs_as_the_authors_or_more():
    rng = np.random.default_rng(0)
    more = 0
    for _ in range(20):
        truth, predicted = rng.uniform(0, 100, (40, 2)), rng.uniform(0, 100, (35, 2))
        distances = cdist(truth, predicted)
        rows, columns = linear_sum_assignment(distances)
        authors = np.count_nonzero(distances[rows, columns] <= 12)
        found = len(match_points(predicted, truth, 12)[0])
        assert found >= authors
        truth_of, predicted_of = match_points(predicted, truth, 12, pairing='nearest')
        assert len(truth_of) == authors
        assert set(zip(truth_of, predicted_of, strict=True)) <= set(zip(rows, columns, strict=True))
        more += found > authors
    assert more  # otherwise the docstring's warning is void
    # Where predictions are near their nuclei the two agree.
    truth = rng.uniform(0, 1000, (300, 2))
    predicted = truth[rng.permutation(300)[:250]] + rng.normal(0, 1, (250, 2))
    distances = cdist(truth, predicted)
    rows, columns = linear_sum_assignment(distances)
    assert len(match_points(predicted, truth, 12)[0]) == np.count_nonzero(distances[rows, columns] <= 12) == 250


def test_radius_in_pixels():
    assert detection_radius(None) == detection_radius(0.25) == 12
    assert detection_radius(0.5) == 6


def test_hand_computed_matrix_and_scores():
    # Pairs: types (1, 1), (1, 2), (2, 2), (0, 2); false negative: a nucleus of type 1; false positives: types 2 and 0.
    truth_types, predicted_types = np.array([1, 1, 2, 0, 1]), np.array([1, 2, 2, 2, 2, 0])
    pairs = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 3])
    matrix = detection_matrix(pairs, predicted_types, truth_types, num_types=3)
    expected = np.zeros((5, 5), int)
    expected[0, 2] = expected[1, 1] = expected[1, 2] = expected[2, 2] = 1
    expected[1, 4] = expected[4, 2] = expected[4, 0] = 1
    np.testing.assert_array_equal(matrix, expected)
    assert detection_f1(matrix) == pytest.approx(2 * 4 / (2 * 4 + 1 + 2), abs=1e-15)
    # Type 1: TP 1, FN_c 1, FN_d 1. Type 2: TP 1, FP_c 1 (not the nucleus of unknown type), FP_d 1. Type 3: nowhere.
    np.testing.assert_allclose(type_f1(matrix), [2 / (2 + 2 + 1), 2 / (2 + 2 + 1), math.nan])


def type_f1_of_the_authors(true, guess, negatives, positives, kind):
    tp = sum(t == g == kind for t, g in zip(true, guess, strict=True))
    fp = sum(t != kind and g == kind for t, g in zip(true, guess, strict=True))
    fn = sum(t == kind and g != kind for t, g in zip(true, guess, strict=True))
    return 2 * tp / (2 * tp + 2 * fp + 2 * fn + positives.count(kind) + negatives.count(kind))


@pytest.mark.parametrize('seed', range(5))
def test_type_f1_by_definition(seed):
    rng = np.random.default_rng(seed)
    truth_types, predicted_types = rng.integers(1, 4, 30), rng.integers(1, 4, 25)
    pairs = rng.permutation(30)[:20], rng.permutation(25)[:20]
    matrix = detection_matrix(pairs, predicted_types, truth_types, num_types=3)
    negatives = np.delete(truth_types, pairs[0]).tolist()
    positives = np.delete(predicted_types, pairs[1]).tolist()
    paired = truth_types[pairs[0]].tolist(), predicted_types[pairs[1]].tolist()
    expected = [type_f1_of_the_authors(*paired, negatives, positives, kind) for kind in (1, 2, 3)]
    np.testing.assert_allclose(type_f1(matrix), expected, atol=1e-15)


def test_empty_images():
    nothing, one = np.zeros(0, int), np.array([1])
    none = nothing, nothing
    assert detection_f1(detection_matrix(none, nothing, nothing, 1)) == 1
    assert detection_f1(detection_matrix(none, one, nothing, 1)) == 0
    assert detection_f1(detection_matrix(none, nothing, one, 1)) == 0
    assert math.isnan(type_f1(detection_matrix(none, nothing, nothing, 1))[0])
    assert type_f1(detection_matrix(none, one, nothing, 1)).tolist() == [0]
    for points in (np.zeros((0, 2)), np.ones((1, 2))):
        assert (
            len(match_points(points, np.zeros((0, 2)), 12)[0])
            == len(match_points(np.zeros((0, 2)), points, 12)[0])
            == 0
        )


def test_unknown_types_are_refused():
    pairs = np.array([0]), np.array([0])
    with pytest.raises(UserError, match='types of nuclei are 3 to 3, allowed are 0 to 2'):
        detection_matrix(pairs, np.array([3]), np.array([1]), num_types=2)
    with pytest.raises(UserError, match='types of nuclei are -1 to 1, allowed are 0 to 2'):
        detection_matrix(pairs, np.array([1]), np.array([-1, 1]), num_types=2)


@pytest.mark.parametrize('seed', range(3))
def test_r2_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 30, (8, 4))
    predicted = truth + rng.integers(-5, 6, truth.shape)
    truth[:, 2] = predicted[:, 2] = 7
    truth[:, 3] = 7
    expected = [r2_score(truth[:, kind], predicted[:, kind]) for kind in range(4)]
    np.testing.assert_allclose(count_r2(predicted, truth), expected, atol=1e-12)
    assert expected[2:] == [1, 0]


def test_r2_of_one_image_does_not_exist():
    assert np.isnan(count_r2(np.array([[1, 2]]), np.array([[1, 2]]))).all()
