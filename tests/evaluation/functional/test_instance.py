import math

import numpy as np
import pytest
from hypothesis import given, settings

from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import (
    INSTANCE_COUNT_NAMES,
    INSTANCE_SCORE_NAMES,
    IOU_THRESHOLDS,
    aji_areas,
    aji_plus_areas,
    contingency_table,
    instance_counts,
    instance_scores,
    merged_nuclei,
    pool,
    split_nuclei,
    summarise_instances,
)

from .label_maps import ignore_masks, iou, label_map_pairs, matchings, scored_nuclei

EMPTY = np.zeros((1, 6), int)
ONE = np.array([[0, 3, 3, 0, 0, 0]])


def renumbered(label_map, offset):
    """Give the nuclei consecutive ids above an offset, in the same order."""
    ids = np.unique(label_map[label_map > 0])
    return np.where(label_map > 0, np.searchsorted(ids, label_map) + offset + 1, 0)


def counts_of(prediction, target, ignore=None):
    return instance_counts(contingency_table(np.array(prediction), np.array(target), ignore))


def scores_of(prediction, target, ignore=None):
    return instance_scores(counts_of(prediction, target, ignore))


def aji_by_definition(predicted, truth):
    """The loop of Kumar's algorithm."""
    inter, union, used = 0, 0, set()
    for pixels in truth.values():
        overlapping = {name: iou(pixels, other) for name, other in predicted.items() if pixels & other}
        if not overlapping:
            union += len(pixels)
            continue
        best = min(overlapping, key=lambda name: (-overlapping[name], name))
        inter += len(pixels & predicted[best])
        union += len(pixels | predicted[best])
        used.add(best)
    return inter, union + sum(len(pixels) for name, pixels in predicted.items() if name not in used)


def aji_plus_by_definition(predicted, truth):
    """Intersections and unions of all matchings whose sum of IoU is the largest there is."""
    choices = [(t, [p for p in predicted if truth[t] & predicted[p]]) for t in truth]
    scored = [(sum(iou(truth[t], predicted[p]) for t, p in pairs), pairs) for pairs in matchings(choices)]
    best = max(total for total, _ in scored)
    for pairs in (pairs for total, pairs in scored if total > best - 1e-9):
        matched = {t for t, _ in pairs}, {p for _, p in pairs}
        alone = [truth[t] for t in truth if t not in matched[0]] + [
            predicted[p] for p in predicted if p not in matched[1]
        ]
        union = sum(len(truth[t] | predicted[p]) for t, p in pairs) + sum(map(len, alone))
        yield sum(len(truth[t] & predicted[p]) for t, p in pairs), union


def covers(cover, other):
    return len(cover & other) > len(other) / 2


@given(label_map_pairs(), ignore_masks())
@settings(max_examples=250, deadline=None)
def test_random_maps_by_definition(maps, ignore):
    predicted, truth = scored_nuclei(*maps, ignore)
    table = contingency_table(*maps, ignore)
    assert aji_areas(table) == aji_by_definition(predicted, truth)
    assert aji_plus_areas(table) in set(aji_plus_by_definition(predicted, truth))
    counts = instance_counts(table)
    scores = instance_scores(counts)
    ious = [iou(t, p) for t in truth.values() for p in predicted.values()]
    if truth or predicted:
        for threshold in IOU_THRESHOLDS:
            tp = sum(value > threshold for value in ious)
            f1 = 2 * tp / (2 * tp + (len(truth) - tp) + (len(predicted) - tp))
            assert scores[f'f1_{round(100 * threshold)}'] == pytest.approx(f1, abs=1e-15)
        half = [value for value in ious if value > 0.5]
        assert scores['dq'] == scores['f1_50']
        assert scores['sq'] == pytest.approx(sum(half) / len(half) if half else 0, abs=1e-12)
        assert scores['pq'] == pytest.approx(sum(half) / ((len(truth) + len(predicted)) / 2), abs=1e-12)
        assert scores['false_negatives'] == sum(
            all(iou(t, p) <= 0.5 for p in predicted.values()) for t in truth.values()
        )
        assert scores['false_positives'] == sum(
            all(iou(t, p) <= 0.5 for t in truth.values()) for p in predicted.values()
        )
    merged = [sum(covers(p, t) for t in truth.values()) > 1 for p in predicted.values()]
    split = [sum(covers(t, p) for p in predicted.values()) > 1 for t in truth.values()]
    assert merged_nuclei(table).tolist() == merged
    assert split_nuclei(table).tolist() == split
    assert (counts.merged, counts.split) == (sum(merged), sum(split))


@given(label_map_pairs())
@settings(max_examples=50, deadline=None)
def test_of_ids_only_the_order_matters(maps):
    assert scores_of(*(renumbered(label_map, 11) for label_map in maps)) == scores_of(*maps)


def test_hand_computed_scores():
    # 1 is found with IoU 3/4, 2 with 2/3 by a nucleus that also grazes 3, 3 is a false negative, 9 a false positive.
    target = [[1, 1, 1, 1, 0, 2, 2, 3, 3, 3, 0, 0]]
    prediction = [[4, 4, 4, 0, 0, 6, 6, 6, 0, 0, 0, 9]]
    scores = scores_of(prediction, target)
    # AJI pairs 3 with 6 too (IoU 1/5): intersections 3 + 2 + 1, unions 4 + 3 + 5, and 9.
    assert scores['aji'] == pytest.approx(6 / 13, abs=1e-15)
    # AJI+ does not: intersections 3 + 2, unions 4 + 3, and 3 and 9.
    assert scores['aji_plus'] == pytest.approx(5 / 11, abs=1e-15)
    assert scores['dq'] == pytest.approx(4 / 6, abs=1e-15)
    assert scores['sq'] == pytest.approx((3 / 4 + 2 / 3) / 2, abs=1e-15)
    assert scores['pq'] == pytest.approx((3 / 4 + 2 / 3) / 3, abs=1e-15)
    assert [scores[f'f1_{at}'] for at in (50, 65, 70, 75)] == pytest.approx([4 / 6, 4 / 6, 2 / 6, 0], abs=1e-15)
    numbers = dict(num_truth=3, num_predicted=3, false_negatives=1, false_positives=1, merged=0, split=0)
    assert {name: scores[name] for name in INSTANCE_COUNT_NAMES} == numbers


def test_matching_that_takes_the_best_pair_first_would_be_wrong():
    # IoU: (1, 6) 4/9, (1, 5) 2/6, (2, 6) 2/9. The largest sum, 5/9, leaves the best pair aside.
    target = [[1, 1, 1, 1, 1, 1, 0, 2, 2, 2, 2]]
    prediction = [[5, 5, 6, 6, 6, 6, 6, 6, 6, 0, 0]]
    assert aji_plus_areas(contingency_table(np.array(prediction), np.array(target))) == (4, 15)


def test_tie_of_aji_goes_to_the_smaller_id():
    # Both halves have IoU 1/2 with the nucleus; the other one is added to the union.
    table = contingency_table(np.array([[8, 5]]), np.array([[1, 1]]))
    assert aji_areas(table) == (1, 3)
    # IoU 2/4 with 5, 3/6 with 8, which has more pixels.
    prediction = np.array([[5, 5, 8, 8, 8]])
    target = np.array([[1, 1, 1, 1, 0]])
    assert aji_areas(contingency_table(prediction, target)) == (2, 4 + 3)


def test_iou_equal_to_the_threshold_is_no_match():
    scores = scores_of([[5, 5, 5, 0, 0]], [[1, 1, 1, 1, 1]])  # IoU 3/5
    assert (scores['f1_55'], scores['f1_60'], scores['f1_65']) == (1, 0, 0)
    assert scores_of([[5, 0]], [[1, 1]])['pq'] == 0


def test_both_empty_is_perfect():
    scores = scores_of(EMPTY, EMPTY)
    assert {scores[name] for name in INSTANCE_SCORE_NAMES} == {1.0}
    assert {scores[name] for name in INSTANCE_COUNT_NAMES} == {0}


def test_everything_ignored_has_no_score():
    scores = scores_of(ONE, EMPTY, np.ones_like(ONE, bool))
    assert tuple(scores) == (*INSTANCE_SCORE_NAMES, *INSTANCE_COUNT_NAMES)
    assert all(math.isnan(scores[name]) for name in INSTANCE_SCORE_NAMES)


def test_ignored_nuclei_leave_an_empty_image():
    assert scores_of(ONE, EMPTY, ONE > 0)['pq'] == 1


def test_summary_tells_mean_over_images_from_pooled():
    # PQ 1, (3/4) / 1.5 = 1/2 and 0; pooled (1 + 3/4) / ((1 + 1 + 1 + 2 + 0 + 1) / 2).
    counts = [
        counts_of([[1, 1, 0, 0, 0]], [[1, 1, 0, 0, 0]]),
        counts_of([[1, 1, 1, 0, 2]], [[1, 1, 1, 1, 0]]),
        counts_of([[0, 0, 5, 5, 5]], [[0, 0, 0, 0, 0]]),
    ]
    summary = summarise_instances(counts)
    assert summary['pq'] == pytest.approx(0.5, abs=1e-15)
    assert summary['pq_std'] == pytest.approx(math.sqrt(0.5 / 3), abs=1e-15)
    assert summary['pq_pooled'] == pytest.approx(1.75 / 3, abs=1e-15)
    assert summary['aji'] == pytest.approx((1 + 3 / 5 + 0) / 3, abs=1e-15)
    assert summary['aji_pooled'] == pytest.approx(5 / (2 + 5 + 3), abs=1e-15)
    assert (summary['num_truth'], summary['num_predicted'], summary['false_positives']) == (2, 4, 2)
    assert (summary['num_images'], summary['num_unscored']) == (3, 0)


@given(label_map_pairs(), label_map_pairs())
@settings(max_examples=50, deadline=None)
def test_pooled_scores_are_those_of_images_side_by_side(one, other):
    pairs = zip(one, other, strict=True)
    side_by_side = [np.hstack((renumbered(left, 0), renumbered(right, 100))) for left, right in pairs]
    pooled = instance_scores(pool([counts_of(*one), counts_of(*other)]))
    assert pooled == pytest.approx(scores_of(*side_by_side), abs=1e-12)


def test_unscored_image_is_counted_but_enters_no_mean():
    ignored = counts_of(ONE, ONE, np.ones_like(ONE, bool))
    summary = summarise_instances([counts_of(ONE, ONE), ignored])
    assert (summary['num_images'], summary['num_unscored'], summary['pq'], summary['pq_pooled']) == (2, 1, 1.0, 1.0)
    assert math.isnan(summarise_instances([ignored])['pq'])


def test_summary_of_nothing_is_refused():
    with pytest.raises(UserError, match='0 images'):
        summarise_instances([])
