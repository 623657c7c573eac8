"""Against implementations of others, where they are installed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from mmgfnuc.evaluation.functional import IOU_THRESHOLDS, contingency_table, instance_counts, instance_scores

from .label_maps import label_map_pairs


def numbered(label_map):
    """Ids without gaps, which some of the others need."""
    return np.unique(np.append(label_map, 0), return_inverse=True)[1][:-1].reshape(label_map.shape)


def scores_of(prediction, target):
    return instance_scores(instance_counts(contingency_table(prediction, target)))


@given(label_map_pairs())
@settings(max_examples=50, deadline=None)
def test_panoptic_quality_of_torchmetrics(maps):
    functional = pytest.importorskip('torchmetrics.functional.detection')
    prediction, target = maps
    if not prediction.any() and not target.any():
        return
    # Category 1 is nucleus, a "thing", and comes first; background is category 0, "stuff" without instances.
    panoptic = [torch.tensor(np.stack([x > 0, numbered(x)], axis=-1).astype(int)[None]) for x in (prediction, target)]
    options = dict(return_sq_and_rq=True, return_per_class=True)
    nucleus, _ = functional.panoptic_quality(*panoptic, things={1}, stuffs={0}, **options)
    scores = scores_of(prediction, target)
    assert [scores[name] for name in ('pq', 'sq', 'dq')] == pytest.approx(nucleus.tolist(), abs=1e-6)


@given(label_map_pairs())
@settings(max_examples=50, deadline=None)
def test_matching_of_stardist(maps):
    matching = pytest.importorskip('stardist.matching').matching
    prediction, target = maps
    if not prediction.any() and not target.any():
        return
    scores = scores_of(prediction, target)
    for threshold in IOU_THRESHOLDS:
        # StarDist's pairs may have the IoU of the threshold, ours are above it; its IoU are float32.
        other = matching(numbered(target), numbered(prediction), thresh=threshold + 1e-6)
        assert scores[f'f1_{round(100 * threshold)}'] == pytest.approx(other.f1, abs=1e-6)
        if threshold == 0.5:
            assert scores['sq'] == pytest.approx(other.mean_matched_score, abs=1e-6)
            assert scores['pq'] == pytest.approx(other.panoptic_quality, abs=1e-6)
            assert (scores['false_negatives'], scores['false_positives']) == (other.fn, other.fp)
