from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings

from mmgfnuc.evaluation.functional import (
    PREDICTED_STATES,
    TRUE_STATES,
    contingency_table,
    instance_counts,
    instance_scores,
    merged_nuclei,
    nucleus_states,
)

from .label_maps import ignore_masks, iou, label_map_pairs, scored_nuclei


def states_of(prediction, target):
    states = nucleus_states(contingency_table(np.array(prediction), np.array(target)))
    return states.truth.tolist(), states.predicted.tolist()


@pytest.mark.parametrize(
    ('target', 'prediction', 'truth', 'predicted'),
    [
        # IoU 2 of 3, above a half; then exactly a half, which is no match.
        ([1, 1, 1, 0], [5, 5, 0, 0], ['matched'], ['matched']),
        ([1, 1, 1, 1], [5, 5, 0, 0], ['false negative'], ['false positive']),
        ([1, 1, 0, 0], [0, 0, 5, 5], ['false negative'], ['false positive']),
        # Two equal nuclei under one: IoU 2 of 5, each.
        ([1, 1, 0, 2, 2], [4, 4, 4, 4, 4], ['merged', 'merged'], ['merged']),
        ([4, 4, 4, 4, 4], [1, 1, 0, 2, 2], ['split'], ['split', 'split']),
        # The merging one matches the larger, IoU 4 of 6: the smaller alone is merged; and the same for a split.
        ([1, 1, 1, 1, 2, 2], [4, 4, 4, 4, 4, 4], ['matched', 'merged'], ['matched']),
        ([4, 4, 4, 4, 4, 4], [1, 1, 1, 1, 2, 2], ['matched'], ['matched', 'split']),
        # 4 covers all of 1 and half of 2 only: no merge. 1: IoU 2 of 4.
        ([1, 1, 0, 2, 2], [4, 4, 4, 4, 0], ['false negative', 'false negative'], ['false positive']),
        # 1 lies by 3 of 5 in the merging 7, and is split into 8 and 9: the merge goes first.
        (
            [1, 1, 1, 1, 1, 2, 2, 2, 0, 0],
            [8, 9, 7, 7, 7, 7, 7, 7, 7, 7],
            ['merged', 'merged'],
            ['merged', 'split', 'split'],
        ),
        ([0, 0, 3], [0, 0, 0], ['false negative'], []),
        ([0, 0, 0], [3, 0, 0], [], ['false positive']),
        ([0, 0, 0], [0, 0, 0], [], []),
    ],
)
def test_by_hand(target, prediction, truth, predicted):
    assert states_of(prediction, target) == (truth, predicted)


def half_of(one, other):
    return len(one & other) > len(one) / 2


def state_by_definition(pixels, others, same_side, covers_word, covered_word, rest):
    """State of a nucleus from sets of pixels; `covers_word` is what it is when it covers two of the others."""
    if any(iou(pixels, other) > 0.5 for other in others):
        return 'matched'
    found = set()
    if sum(half_of(other, pixels) for other in others) > 1:
        found.add(covers_word)
    for other in others:
        if half_of(pixels, other) and sum(half_of(one, other) for one in same_side) > 1:
            found.add(covered_word)
    return next((word for word in ('merged', 'split') if word in found), rest)


@given(label_map_pairs(), ignore_masks())
@settings(max_examples=250, deadline=None)
def test_random_maps_by_definition(maps, ignore):
    predicted, truth = (list(nuclei.values()) for nuclei in scored_nuclei(*maps, ignore))
    table = contingency_table(*maps, ignore)
    states = nucleus_states(table)
    assert states.truth.tolist() == [
        state_by_definition(pixels, predicted, truth, 'split', 'merged', 'false negative') for pixels in truth
    ]
    assert states.predicted.tolist() == [
        state_by_definition(pixels, truth, predicted, 'merged', 'split', 'false positive') for pixels in predicted
    ]
    of_truth, of_predicted = states.counts
    assert tuple(of_truth) == TRUE_STATES
    assert tuple(of_predicted) == PREDICTED_STATES
    assert Counter(of_truth) == Counter(states.truth.tolist())
    assert Counter(of_predicted) == Counter(states.predicted.tolist())
    scores = instance_scores(instance_counts(table))
    negatives, positives = (sum(counts.values()) - counts['matched'] for counts in states.counts)
    assert of_truth['matched'] == of_predicted['matched']
    assert (negatives, positives) == (scores['false_negatives'], scores['false_positives'])


@given(label_map_pairs())
@settings(max_examples=100, deadline=None)
def test_all_nuclei_of_a_merge_but_at_most_one_are_merged_and_of_a_split_split(maps):
    states = nucleus_states(contingency_table(*maps))
    assert_each_merge_shows(contingency_table(*maps), states.truth == 'merged')
    assert_each_merge_shows(contingency_table(*maps[::-1]), states.predicted == 'split')


def assert_each_merge_shows(table, shown):
    inside = 2 * table.intersections > table.truth_areas[table.truth_index]
    for merging in np.flatnonzero(merged_nuclei(table)):
        covered = table.truth_index[inside & (table.predicted_index == merging)]
        assert shown[covered].sum() >= len(covered) - 1 >= 1
