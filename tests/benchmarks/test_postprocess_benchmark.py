"""benchmarks/postprocess.py: one JSON line. The speed that it measures is not asserted."""

import json

import cv2
import numpy as np
import postprocess
import pytest

from mmgfnuc.analysis import read_records
from mmgfnuc.analysis.measurements import POSTPROCESS, conditions
from mmgfnuc.datasets.synthetic import render_tile


@pytest.fixture(autouse=True)
def _threads():
    threads = cv2.getNumThreads()
    yield
    cv2.setNumThreads(threads)


def test_prints_one_line_and_writes_a_record(run_here, tmp_path, capsys):
    target = tmp_path / 'postprocess.json'
    assert run_here(postprocess, '--size', '192', '--images', '2', '--pairs', '1', '--out', str(target)) == 0
    (line,) = capsys.readouterr().out.splitlines()
    rows = json.loads(line)
    assert [row['decoder'] for row in rows] == ['semantic', 'distance', 'hover', 'boundary']
    for row in rows:
        assert row['speedup_vs_skimage'] > 0
        assert row['nuclei_per_s'] > 0
        assert sum(row[f'share_{stage}'] for stage in ('mask', 'mark', 'divide')) == pytest.approx(1, abs=0.002)
        assert row['pq'] >= row['pq_skimage'] > 0.5
    record = read_records(tmp_path)['postprocess']
    assert record['kind'] == POSTPROCESS
    assert record['rows'] == rows
    assert conditions(record).startswith('batches of 2, 192x192 pixels, on 1 CPU thread of ')


def test_the_maps_are_the_same_in_every_run():
    labels = render_tile(np.random.default_rng(0), 64)[1]
    first, second = (postprocess.decoder_maps(labels, np.random.default_rng(1)) for _ in range(2))
    for name, maps in first.items():
        for channel, again in zip(maps, second[name], strict=True):
            np.testing.assert_array_equal(channel, again)
    # Noisy, yet the foreground can be told.
    foreground = first['semantic'][0]
    assert foreground[labels == 0].std() > 0.03
    assert foreground[labels > 0].mean() > 0.7 > 0.3 > foreground[labels == 0].mean()


def test_the_plain_recipe_finds_nuclei_that_lie_apart():
    foreground = np.zeros((40, 60), np.float32)
    foreground[10:21, 10:21] = foreground[10:21, 35:46] = 1
    labels = postprocess.plain_recipe(foreground)
    assert (labels > 0).sum() == (foreground > 0).sum()
    assert set(np.unique(labels[:, :30])) & set(np.unique(labels[:, 30:])) == {0}
