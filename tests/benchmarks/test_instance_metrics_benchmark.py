"""benchmarks/instance_metrics.py: one JSON line, equal scores on both sides. What it measures is not asserted."""

import instance_metrics
import numpy as np
from instance_sections import speed_sections

from mmgfnuc.evaluation.functional import contingency_table, instance_counts, instance_scores

SMALL = ('--size', '200', '--nuclei', '64', '--growth', '2', '--pairs', '1')


def test_prints_one_line_and_writes_a_record(measured):
    row = measured(instance_metrics, speed_sections, *SMALL)
    assert row['nuclei'] == 64
    assert row['max_abs_diff'] < 1e-12


def test_maps_are_the_same_each_time_and_have_every_error():
    prediction, target = instance_metrics.draw_maps(400, 225)
    assert (instance_metrics.draw_maps(400, 225)[0] == prediction).all()
    assert len(np.unique(target)) == 225 + 1
    numbers = instance_scores(instance_counts(contingency_table(prediction, target)))
    assert all(numbers[name] for name in ('false_negatives', 'false_positives', 'merged'))
    assert 0.5 < numbers['pq'] < 0.9
