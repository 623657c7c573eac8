"""benchmarks/perfect_maps.py at small size: a line of JSON, and a record."""

import json

import perfect_maps
import pytest

from mmgfnuc.datasets import synthetic


@pytest.fixture
def data(tmp_path):
    synthetic.write_dataset(tmp_path / 'data', num_train=2, num_val=1, size=128, seed=0)
    return tmp_path / 'data'


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr('sys.argv', ['perfect_maps.py', *map(str, arguments)])
    perfect_maps.main()
    return json.loads(capsys.readouterr().out)


def test_heads_that_see_instances_lose_next_to_nothing(data, monkeypatch, capsys, tmp_path):
    rows = run(monkeypatch, capsys, '--data', data, '--out', tmp_path / 'record.json')
    scores = {row['head']: row for row in rows}
    assert list(scores) == ['semantic', 'dual-decoder', 'hover', 'boundary']
    assert all(scores[head]['aji'] > 0.9 for head in ('dual-decoder', 'hover', 'boundary'))
    assert scores['semantic']['aji'] < scores['hover']['aji']
    record = json.loads((tmp_path / 'record.json').read_text())
    assert record['rows'] == rows
    assert record['settings'] == {'images': 3, 'scale': 1.0, 'data': 'synthetic'}


def test_half_the_resolution_costs(data, monkeypatch, capsys):
    whole, half = (run(monkeypatch, capsys, '--data', data, '--scale', scale) for scale in (1, 0.5))
    assert [row['num_truth'] for row in half] == [row['num_truth'] for row in whole]
    assert half[2]['aji'] < whole[2]['aji']
