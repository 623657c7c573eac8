"""benchmarks/postprocess.py: one JSON line. The speed that it measures is not asserted."""

import numpy as np
import postprocess
import pytest
from instance_sections import speed_sections

from mmgfnuc.datasets.synthetic import render_tile


def test_prints_one_line_and_writes_a_record(measured):
    rows = measured(postprocess, speed_sections, '--size', '192', '--images', '2', '--pairs', '1')
    assert [row['post_processor'] for row in rows] == ['semantic', 'distance', 'hover', 'boundary']
    for row in rows:
        assert min(row['speedup_vs_skimage'], row['nuclei_per_s']) > 0
        assert sum(row[f'share_{stage}'] for stage in ('regions', 'mark', 'divide')) == pytest.approx(1, abs=0.002)
        assert row['pq'] >= row['pq_skimage'] > 0.5


def test_the_maps_are_the_same_in_every_run():
    labels = render_tile(np.random.default_rng(0), 64)[1]
    first, second = (postprocess.noisy_maps(labels, np.random.default_rng(1)) for _ in range(2))
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
