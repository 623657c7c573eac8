import doctest
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import contingency_table

from .label_maps import SIDE, ignore_masks, iou, label_map_pairs, scored_nuclei

MODULES = ('bootstrap', 'boundary', 'contingency', 'detection', 'instance', 'matching', 'typed')
NOTHING = np.zeros((SIDE, SIDE), bool)


@pytest.mark.parametrize('name', MODULES)
def test_doctests(name):
    outcome = doctest.testmod(import_module(f'mmgfnuc.evaluation.functional.{name}'))
    assert outcome.attempted >= 1
    assert outcome.failed == 0


def assert_table_is_right(prediction, target, ignore, table):
    predicted, truth = scored_nuclei(prediction, target, ignore)
    assert table.truth_ids.tolist() == list(truth)
    assert table.predicted_ids.tolist() == list(predicted)
    assert table.truth_areas.tolist() == [len(pixels) for pixels in truth.values()]
    assert table.predicted_areas.tolist() == [len(pixels) for pixels in predicted.values()]
    pairs = [(t, p) for t in truth for p in predicted if truth[t] & predicted[p]]
    ids = table.truth_ids[table.truth_index], table.predicted_ids[table.predicted_index]
    assert list(zip(*(side.tolist() for side in ids), strict=True)) == pairs
    assert table.intersections.tolist() == [len(truth[t] & predicted[p]) for t, p in pairs]
    assert table.unions.tolist() == [len(truth[t] | predicted[p]) for t, p in pairs]
    assert table.ious.tolist() == [iou(truth[t], predicted[p]) for t, p in pairs]
    assert table.num_pixels == np.count_nonzero(~ignore)


@given(label_map_pairs())
@settings(max_examples=150, deadline=None)
def test_table_of_random_maps(maps):
    assert_table_is_right(*maps, NOTHING, contingency_table(*maps))


@given(label_map_pairs(), ignore_masks())
@settings(max_examples=250, deadline=None)
def test_table_of_random_maps_with_ignored_pixels(maps, ignore):
    assert_table_is_right(*maps, ignore, contingency_table(*maps, ignore))


def test_blocks_do_not_show():
    # 300 x 300 pixels are more than a block; a nucleus and a pair go on from one block to the next.
    rng = np.random.default_rng(0)
    target = np.repeat(rng.integers(0, 50, (300, 30)), 10, axis=1)
    prediction = np.roll(target, 3, axis=1)
    table = contingency_table(prediction, target)
    crossed = np.zeros((50, 50), int)
    np.add.at(crossed, (target.ravel(), prediction.ravel()), 1)
    assert table.intersections.tolist() == crossed[1:, 1:][crossed[1:, 1:] > 0].tolist()
    assert table.truth_areas.tolist() == crossed.sum(axis=1)[1:].tolist()
    assert table.predicted_areas.tolist() == crossed.sum(axis=0)[1:].tolist()


@pytest.mark.parametrize('dtypes', [(np.uint8, np.int64), (np.uint16, np.int32), (np.uint64, np.uint16)])
def test_any_integer_dtype(dtypes):
    prediction, target = np.array([[250, 250, 0]], dtypes[0]), np.array([[9, 0, 9]], dtypes[1])
    table = contingency_table(prediction, target)
    assert (table.truth_ids.tolist(), table.predicted_ids.tolist(), table.intersections.tolist()) == ([9], [250], [1])


def test_map_without_pixels():
    table = contingency_table(np.zeros((0, 5), int), np.zeros((0, 5), int))
    assert (table.num_pixels, len(table.truth_ids), len(table.predicted_ids), len(table.ious)) == (0, 0, 0, 0)


def test_nucleus_found_in_an_ambiguous_region_is_not_wrong():
    ignore = np.array([[1, 1, 1, 0, 0, 0, 0, 0]], bool)
    target = np.array([[0, 0, 0, 0, 0, 5, 5, 0]])
    # 1 is ignored by 3 of 4 pixels: gone. 2 is not ignored at all.
    table = contingency_table(np.array([[1, 1, 1, 1, 0, 2, 2, 0]]), target, ignore)
    assert table.predicted_ids.tolist() == [2]
    # Ignored by 3 of 5 pixels, but the remainder is the true nucleus: kept.
    table = contingency_table(np.array([[1, 1, 1, 0, 0, 1, 1, 0]]), target, ignore)
    assert (table.predicted_ids.tolist(), table.predicted_areas.tolist(), table.ious.tolist()) == ([1], [2], [1.0])
    # Ignored by half: kept, and wrong.
    table = contingency_table(np.array([[0, 0, 1, 1, 0, 2, 2, 0]]), target, ignore)
    assert table.predicted_ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    ('prediction', 'target', 'ignore', 'message'),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), None, r'prediction has shape \(2, 3\), target \(3, 2\)'),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), np.zeros((3, 2), bool), r'ignore has shape \(3, 2\)'),
        (np.zeros((2, 3)), np.zeros((2, 3), int), None, 'prediction has dtype float64'),
        (np.zeros((2, 3), int), np.zeros((2, 3), bool), None, 'target has dtype bool'),
        (np.array([[-1, 3]]), np.array([[0, 1]]), None, 'prediction holds ids -1 to 3'),
        (np.array([[0, 3]]), np.array([[0, 2**31]]), None, 'target holds ids 0 to 2147483648'),
    ],
)
def test_bad_maps_are_refused(prediction, target, ignore, message):
    with pytest.raises(UserError, match=message):
        contingency_table(prediction, target, ignore)
