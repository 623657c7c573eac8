import math

import numpy as np
import pytest
from hypothesis import given, settings

from mmgfnuc.evaluation.functional import (
    boundary_counts,
    boundary_f1,
    boundary_pixels,
    contingency_table,
    hausdorff95,
)

from .label_maps import ignore_masks, iou, label_map_pairs, nuclei, scored_nuclei

EMPTY = np.zeros((4, 6), int)
ONE = np.pad([[3, 3], [3, 3]], ((1, 1), (2, 2)))


def rim(pixels):
    """Pixels of a nucleus that have not all four neighbours in it."""
    return {(r, c) for r, c in pixels if not {(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)} <= pixels}


def rims(label_map):
    return set().union(*(rim(pixels) for pixels in nuclei(label_map).values()))


def distances(these, those):
    return [min((math.dist(one, other) for other in those), default=math.inf) for one in these]


@given(label_map_pairs(), ignore_masks())
@settings(max_examples=100, deadline=None)
def test_boundaries_of_random_maps_by_definition(maps, ignore):
    prediction, target = maps
    predicted, truth = rims(prediction), rims(target)
    assert {tuple(pixel) for pixel in np.argwhere(boundary_pixels(target)).tolist()} == truth
    shown = [{pixel for pixel in pixels if not ignore[pixel]} for pixels in (predicted, truth)]
    for tolerance in (0, 1, 1.5, 2):
        precise = sum(distance <= tolerance for distance in distances(shown[0], truth))
        recalled = sum(distance <= tolerance for distance in distances(shown[1], predicted))
        expected = [precise, len(shown[0]), recalled, len(shown[1]), np.count_nonzero(~ignore)]
        assert boundary_counts(prediction, target, ignore, tolerance).tolist() == expected


@given(label_map_pairs(), ignore_masks())
@settings(max_examples=150, deadline=None)
def test_hausdorff_of_random_maps_by_definition(maps, ignore):
    prediction, target = maps
    predicted, truth = scored_nuclei(prediction, target, ignore)
    whole = nuclei(prediction), nuclei(target)
    expected = []
    for t in truth:
        for p in predicted:
            if iou(truth[t], predicted[p]) <= 0.5:
                continue
            a, b = rim(whole[1][t]), rim(whole[0][p])
            sides = [distances([pixel for pixel in x if not ignore[pixel]], y) for x, y in ((a, b), (b, a))]
            if all(sides):
                expected.append(max(np.percentile(side, 95) for side in sides))
    table = contingency_table(prediction, target, ignore)
    np.testing.assert_allclose(hausdorff95(prediction, target, table, ignore), expected, atol=1e-12)


def test_moved_square():
    target, prediction = np.zeros((2, 30, 30), int)
    target[5:15, 5:15] = 1
    prediction[5:15, 8:18] = 4
    # The outermost column, 10 of 36 boundary pixels, is 3 pixels from the truth.
    assert hausdorff95(prediction, target, contingency_table(prediction, target)).tolist() == [3.0]
    # Near: in both rows the 7 common columns and the next one; of the column inside, the pixels next to those rows.
    counts = boundary_counts(prediction, target, tolerance=1)
    near = 2 * 7 + 2 * 1 + 2
    assert counts.tolist() == [near, 36, near, 36, 900]
    assert boundary_f1(counts) == pytest.approx(near / 36, abs=1e-15)


def test_empty_images():
    assert boundary_f1(boundary_counts(EMPTY, EMPTY)) == 1
    assert boundary_f1(boundary_counts(ONE, EMPTY)) == 0
    assert boundary_f1(boundary_counts(EMPTY, ONE)) == 0
    assert boundary_f1(boundary_counts(ONE, EMPTY, ONE > 0)) == 1
    assert math.isnan(boundary_f1(boundary_counts(ONE, ONE, np.ones_like(ONE, bool))))
    for prediction, target in ((EMPTY, EMPTY), (ONE, EMPTY), (EMPTY, ONE)):
        assert hausdorff95(prediction, target, contingency_table(prediction, target)).tolist() == []
