import json

import numpy as np
import pytest
import torch

from mmgfnuc.analysis import make_record, read_records
from mmgfnuc.analysis.records import data_digest
from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.canonical import write_meta, write_sample
from mmgfnuc.errors import UserError


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / 'data'
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    write_sample(root, 'a', image, np.eye(4, dtype=np.int32))
    meta = dict(name='x', classes=['background', 'nucleus'], licence='', citation='', source='')
    write_meta(root, {**meta, 'images': {'a': {'group': 'liver', 'mpp': None}}})
    return NucleiDataset(root)


def trained_run(folder, seed, steps=5, tested=True):
    folder.mkdir()
    meta = dict(cfg='', seed=seed, iter=steps, versions={'torch': '2'})
    times = dict(experiment_name='some_config_20260101_120000', time='20260101_123000')
    torch.save({'state_dict': {}, 'meta': {**meta, **times}}, folder / 'last.pth')
    if tested:
        (folder / 'test').mkdir()
        (folder / 'test' / 'metrics.json').write_text('{"dice": 0.5}')
        (folder / 'test' / 'per_image.csv').write_text(f'seed {seed}')
    return folder / 'last.pth'


def test_record_holds_each_seed_and_copies_its_per_image_scores(tmp_path, dataset):
    runs = [trained_run(tmp_path / f'run{seed}', seed) for seed in (0, 1)]
    make_record(tmp_path / 'results', 'name', 'Title', ['make it'], runs, dataset)
    record = read_records(tmp_path / 'results')['name']
    assert record['steps'] == 5
    assert record['data']['groups'] == ['liver']
    assert [(run['seed'], run['train_minutes'], run['scores']) for run in record['runs']] == [
        (0, 30.0, {'dice': 0.5}),
        (1, 30.0, {'dice': 0.5}),
    ]
    assert (tmp_path / 'results' / 'name_seed1.csv').read_text() == 'seed 1'
    json.dumps(record, allow_nan=False)


def test_untested_or_unequal_runs_are_refused(tmp_path, dataset):
    tested = trained_run(tmp_path / 'a', 0)
    with pytest.raises(UserError, match=r'tools/test\.py'):
        make_record(tmp_path, 'n', 't', ['c'], [trained_run(tmp_path / 'b', 1, tested=False)], dataset)
    with pytest.raises(UserError, match='differ in steps'):
        make_record(tmp_path, 'n', 't', ['c'], [tested, trained_run(tmp_path / 'c', 1, steps=6)], dataset)


def test_digest_changes_with_any_label(tmp_path, dataset):
    before = data_digest(dataset)
    assert before == data_digest(dataset)
    write_sample(dataset.data_root, 'a', np.arange(48, dtype=np.uint8).reshape(4, 4, 3), np.ones((4, 4), np.int32))
    assert data_digest(dataset) != before
