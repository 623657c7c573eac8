"""benchmarks/perfect_maps.py at small size: a line of JSON, and a record."""

import perfect_maps
import pytest
from instance_sections import lost_section

from mmgfnuc.datasets import NucleiDataset, synthetic


@pytest.fixture
def data(tmp_path):
    synthetic.write_dataset(tmp_path / 'data', num_train=2, num_val=1, size=128, seed=0)
    return tmp_path / 'data'


def test_heads_that_see_instances_lose_next_to_nothing(data, measured):
    rows = measured(perfect_maps, lost_section, '--data', str(data))
    scores = {row['head']: row for row in rows}
    assert list(scores) == ['semantic', 'dual-decoder', 'hover', 'boundary']
    assert all(scores[head]['aji'] > 0.9 for head in ('dual-decoder', 'hover', 'boundary'))
    assert scores['semantic']['aji'] < scores['hover']['aji']


def test_half_the_resolution_costs(data):
    whole, half = (perfect_maps.measure(NucleiDataset(data), scale) for scale in (1, 0.5))
    assert [row['num_truth'] for row in half] == [row['num_truth'] for row in whole]
    assert half[2]['aji'] < whole[2]['aji']
