"""benchmarks/instance_metrics.py: one JSON line, equal scores on both sides. What it measures is not asserted."""

import json

import instance_metrics
import numpy as np

from mmgfnuc.analysis import read_records
from mmgfnuc.analysis.measurements import INSTANCE_METRICS, conditions
from mmgfnuc.evaluation.functional import contingency_table, instance_counts, instance_scores

SMALL = ('--size', '200', '--nuclei', '64', '--growth', '2', '--pairs', '1')


def test_prints_one_line_and_writes_a_record(run_here, tmp_path, capsys):
    assert run_here(instance_metrics, *SMALL, '--out', str(tmp_path / 'metrics.json')) == 0
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert set(row) >= {'cost_vs_unique', 'cost_vs_unique_large', 'cost_growth', 'speedup_vs_loops', 'ms', 'ms_large'}
    assert row['nuclei'] == 64
    assert row['max_abs_diff'] < 1e-12
    record = read_records(tmp_path)['metrics']
    assert record['kind'] == INSTANCE_METRICS
    assert record['rows'] == [row]
    assert record['settings'] == dict(size=200, nuclei=64, growth=2, pairs=1, batch=1, threads=1, device='cpu')
    assert conditions(record).startswith('batches of 1, 200x200 pixels, on 1 CPU thread of ')


def test_maps_are_the_same_each_time_and_have_every_error():
    prediction, target = instance_metrics.draw_maps(400, 225)
    assert (instance_metrics.draw_maps(400, 225)[0] == prediction).all()
    assert len(np.unique(target)) == 225 + 1
    numbers = instance_scores(instance_counts(contingency_table(prediction, target)))
    assert all(numbers[name] for name in ('missed', 'invented', 'merged'))
    assert 0.5 < numbers['pq'] < 0.9
