import doctest
import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from sklearn.metrics import f1_score, jaccard_score

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import (
    SCORE_NAMES,
    confusion_matrix,
    foreground_counts,
    semantic,
    semantic_scores,
    summarise,
)

EMPTY = np.zeros((2, 3), np.uint8)
ONE_PIXEL = np.array([[0, 1, 0], [0, 0, 0]], np.uint8)
IGNORED = np.full((2, 3), 255, np.uint8)


def scores_of(prediction, target, num_classes=2):
    return semantic_scores(confusion_matrix(prediction, target, num_classes))


def random_maps(seed, num_classes, shape=(17, 23)):
    """A target with ignored pixels and a prediction that agrees with about half of it."""
    rng = np.random.default_rng(seed)
    target = rng.integers(num_classes, size=shape)
    prediction = np.where(rng.random(shape) < 0.5, target, rng.integers(num_classes, size=shape))
    target[rng.random(shape) < 0.1] = 255
    return prediction, target


def test_doctests():
    outcome = doctest.testmod(semantic)
    assert outcome.attempted >= 8
    assert outcome.failed == 0


def test_hand_computed_scores():
    target = np.array([[0, 0, 0, 0, 1, 1, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 0, 1, 1, 1, 0, 1]], np.int64)
    matrix = confusion_matrix(prediction, target, 2)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[3, 1], [1, 2]]
    assert foreground_counts(matrix) == (2, 1, 1)
    # Background: IoU 3/5, F1 6/8, support 4. Nucleus: IoU 2/4, F1 4/6, support 3.
    assert semantic_scores(matrix) == pytest.approx(
        {
            'dice': 4 / 6,
            'iou': 2 / 4,
            'miou': (3 / 5 + 2 / 4) / 2,
            'weighted_f1': (4 * 6 / 8 + 3 * 4 / 6) / 7,
            'weighted_iou': (4 * 3 / 5 + 3 * 2 / 4) / 7,
        },
        abs=1e-15,
    )


def test_nucleus_types_are_one_foreground():
    # Both nuclei are found, their types are swapped: perfect as foreground, wrong as classes.
    scores = scores_of(np.array([0, 2, 1]), np.array([0, 1, 2]), num_classes=3)
    assert scores == pytest.approx(
        {'dice': 1, 'iou': 1, 'miou': 1 / 3, 'weighted_f1': 1 / 3, 'weighted_iou': 1 / 3}, abs=1e-15
    )


def test_empty_truth_and_empty_prediction_are_perfect():
    assert scores_of(EMPTY, EMPTY) == dict.fromkeys(SCORE_NAMES, 1.0)


def test_absent_class_does_not_enter_miou():
    # Class 1 occurs nowhere: the mean is over classes 0 (IoU 4/5) and 2 (IoU 1/2).
    prediction = np.array([0, 0, 0, 0, 2, 2])
    target = np.array([0, 0, 0, 0, 0, 2])
    assert scores_of(prediction, target, num_classes=3)['miou'] == pytest.approx((4 / 5 + 1 / 2) / 2, abs=1e-15)


@pytest.mark.parametrize(
    ('prediction', 'target', 'miou', 'weighted_f1', 'weighted_iou'),
    [
        # Prediction only: background IoU 5/6, F1 10/11, support 6; nucleus IoU 0, F1 0, support 0.
        (ONE_PIXEL, EMPTY, 5 / 12, 10 / 11, 5 / 6),
        # Truth only: background IoU 5/6, F1 10/11, support 5; nucleus IoU 0, F1 0, support 1.
        (EMPTY, ONE_PIXEL, 5 / 12, 50 / 66, 25 / 36),
    ],
)
def test_foreground_on_one_side_only_is_a_miss(prediction, target, miou, weighted_f1, weighted_iou):
    scores = scores_of(prediction, target)
    assert scores['dice'] == 0.0
    assert scores['iou'] == 0.0
    assert scores['miou'] == pytest.approx(miou, abs=1e-15)
    assert scores['weighted_f1'] == pytest.approx(weighted_f1, abs=1e-15)
    assert scores['weighted_iou'] == pytest.approx(weighted_iou, abs=1e-15)


def test_foreground_that_is_ignored_leaves_an_empty_image():
    target = np.where(ONE_PIXEL == 1, 255, 0)
    assert scores_of(ONE_PIXEL, target)['dice'] == 1.0


def test_everything_ignored_has_no_score():
    scores = scores_of(ONE_PIXEL, IGNORED)
    assert tuple(scores) == SCORE_NAMES
    assert all(math.isnan(score) for score in scores.values())


@pytest.mark.parametrize('num_classes', [2, 3, 7])
@pytest.mark.parametrize('seed', range(4))
def test_agrees_with_scikit_learn(seed, num_classes):
    prediction, target = random_maps(seed, num_classes)
    if num_classes > 2:
        # One class occurs nowhere; scikit-learn then averages over the labels it sees.
        prediction[prediction == 1], target[target == 1] = 0, 0
    valid = target != 255
    truth, guess = target[valid], prediction[valid]
    matrix = confusion_matrix(prediction, target, num_classes)
    np.testing.assert_array_equal(matrix, sklearn_confusion_matrix(truth, guess, labels=range(num_classes)))
    assert semantic_scores(matrix) == pytest.approx(
        {
            'dice': f1_score(truth > 0, guess > 0),
            'iou': jaccard_score(truth > 0, guess > 0),
            'miou': jaccard_score(truth, guess, average='macro'),
            'weighted_f1': f1_score(truth, guess, average='weighted'),
            'weighted_iou': jaccard_score(truth, guess, average='weighted'),
        },
        rel=1e-12,
    )


def test_ignored_pixels_may_hold_any_prediction():
    matrix = confusion_matrix(np.array([9, 1]), np.array([255, 1]), 2)
    assert matrix.tolist() == [[0, 0], [0, 1]]


def test_other_ignore_index():
    matrix = confusion_matrix(np.array([1, 1]), np.array([-1, 1]), 2, ignore_index=-1)
    assert matrix.tolist() == [[0, 0], [0, 1]]


def test_boolean_masks():
    assert confusion_matrix(np.array([True, False]), np.array([True, True]), 2).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ('prediction', 'target', 'message'),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r'shape \(2, 3\), target \(3, 2\)'),
        (np.array([2]), np.array([0]), 'prediction holds class 2, classes are 0 to 1'),
        (np.array([0]), np.array([-1]), 'target holds class -1, classes are 0 to 1'),
        (np.array([0.7]), np.array([1]), 'prediction has dtype float64'),
    ],
)
def test_bad_maps_are_refused(prediction, target, message):
    with pytest.raises(UserError, match=message):
        confusion_matrix(prediction, target, 2)


def test_summary_tells_mean_over_images_from_pooled():
    # Dice 2/2 = 1, 4/8 = 0.5 and 0/1 = 0; pooled tp = 3, fp = 3, fn = 2: 6/11.
    matrices = [np.array(m) for m in ([[1, 0], [0, 1]], [[4, 2], [2, 2]], [[5, 1], [0, 0]])]
    summary = summarise(matrices)
    assert summary['dice'] == pytest.approx(0.5, abs=1e-15)
    assert summary['dice_std'] == pytest.approx(math.sqrt((0.25 + 0 + 0.25) / 3), abs=1e-15)
    assert summary['dice_pooled'] == pytest.approx(6 / 11, abs=1e-15)
    assert summary['iou'] == pytest.approx((1 + 1 / 3 + 0) / 3, abs=1e-15)
    assert summary['iou_pooled'] == pytest.approx(3 / 8, abs=1e-15)
    assert set(summary) == {f'{name}{end}' for name in SCORE_NAMES for end in ('', '_std', '_pooled')} | {
        'num_images',
        'num_unscored',
    }


def test_pooled_scores_are_those_of_the_joined_image():
    maps = [random_maps(seed, num_classes=2) for seed in range(3)]
    summary = summarise([confusion_matrix(prediction, target, 2) for prediction, target in maps])
    joined = scores_of(np.stack([p for p, _ in maps]), np.stack([t for _, t in maps]))
    assert {name: summary[f'{name}_pooled'] for name in SCORE_NAMES} == joined


def test_unscored_image_is_counted_but_enters_no_mean():
    scored = np.array([[4, 2], [2, 2]])
    summary = summarise([scored, np.zeros((2, 2), int)])
    assert (summary['num_images'], summary['num_unscored']) == (2, 1)
    assert summary['dice'] == summary['dice_pooled'] == 0.5
    assert summary['dice_std'] == 0.0


def test_summary_without_any_scored_image_is_nan():
    summary = summarise([np.zeros((2, 2), int)])
    assert (summary.pop('num_images'), summary.pop('num_unscored')) == (1, 1)
    assert all(math.isnan(value) for value in summary.values())


def test_summary_of_nothing_is_refused():
    with pytest.raises(UserError, match='0 images'):
        summarise([])
