"""A study from its cells to its scores, with processes that are killed, fail and begin again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from mmgfnuc.benchmark import markdown_report, run_cells, study_cells, study_scores
from mmgfnuc.benchmark.cells import cell_config
from mmgfnuc.benchmark.local import cell_folder, cell_state, devices
from mmgfnuc.benchmark.study import make_study
from mmgfnuc.datasets import synthetic
from mmgfnuc.errors import UserError

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'benchmark.py'
SMALL = {'backbone': {'widths': [4, 8, 16]}}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('study') / 'data'
    synthetic.write_dataset(root, num_train=4, num_val=2, size=64, seed=0)
    return root


def settings(data, **changes):
    arms = [{'unet': 'unet', 'head': ['semantic', 'hover'], 'parts': SMALL}]
    study = dict(title='A study', data='synthetic', data_root=str(data), splits=['default'], steps=4, batch_size=2)
    return study | {'arms': arms} | changes


def cells_of(data, **changes):
    return study_cells(make_study(settings(data, **changes)))


def test_a_config_is_made_of_its_parts(data):
    arm = {'foundation': 'vit-tiny', 'fusion': 'shuffled-context-image', 'head': 'hover', 'parts': SMALL}
    study = make_study(settings(data, arms=[arm], amp=True))
    config = cell_config(study, study.arms[0], 'default', 3)
    assert config.train_cfg.max_iters == 4
    assert config.randomness.seed == config.train_dataloader.dataset.seed == 3
    for part in ('train', 'test'):
        assert config[f'{part}_dataloader'].dataset.partner_images
        assert config[f'{part}_dataloader'].dataset.data_root == str(data)
    assert config.model.partner_context
    assert 'HoverTarget' in str(config.train_dataloader.dataset.pipeline[-2].type)
    assert config.model.decode_head.decoder.type.endswith('UNetHead')
    assert config.optim_wrapper.type == 'mmgfnuc.BFloat16OptimWrapper'
    assert Config.fromstring(config.pretty_text, '.py').to_dict() == config.to_dict()


def test_keys_follow_config_code_and_data(data, tmp_path, monkeypatch):
    keys = [cell.key for cell in cells_of(data)]
    assert keys == [cell.key for cell in cells_of(data)]
    assert len(set(keys)) == 2
    assert not set(keys) & {cell.key for cell in cells_of(data, steps=5)}
    assert not set(keys) & {cell.key for cell in cells_of(data, seeds=[1])}
    monkeypatch.setattr('mmgfnuc.benchmark.cells.code_digest', lambda: 'other code')
    assert not set(keys) & {cell.key for cell in cells_of(data)}


def test_a_split_that_is_not_there(data):
    with pytest.raises(UserError, match=r"split='fold-9': .* has default"):
        cells_of(data, splits=['fold-9'])


def test_one_process_for_each_device(monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    assert devices() == [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '1'}]
    assert [device['CUDA_VISIBLE_DEVICES'] for device in devices(3)] == ['0', '1', '0']
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    assert devices(1) == [{'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}]


@pytest.mark.slow
def test_a_study_that_is_killed_ends_with_the_same_scores(data, tmp_path):
    """SIGKILL of the tool and all that it started, in the middle; then the rest."""
    study = tmp_path / 'study.yaml'
    study.write_text(json.dumps(settings(data)))
    command = [sys.executable, str(TOOL), str(study), '--processes', '1', '--out', str(tmp_path / 'killed')]
    begun = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cells = cells_of(data)
    first, second = (cell_folder(tmp_path / 'killed' / 'cells', cell) for cell in cells)
    while not (second / 'log.txt').is_file() and begun.poll() is None:
        time.sleep(0.05)
    # It is importing, training or scoring by then; whichever it is must not matter.
    time.sleep(4.0)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    root = tmp_path / 'killed' / 'cells'
    assert [cell_state(root, cell) for cell in cells] == ['done', 'begun']
    stamp = (first / 'done.json').stat().st_mtime_ns
    run_cells(cells, root, processes=1)
    assert (first / 'done.json').stat().st_mtime_ns == stamp
    run_cells(cells, tmp_path / 'whole', processes=2)
    scores = study_scores(cells, root)
    assert scores == study_scores(cells, tmp_path / 'whole')
    assert len(scores) == 4
    assert {row['arm'] for row in scores} == {'unet/none/semantic', 'unet/none/hover'}
    assert all(0 <= row['dice'] <= 1 for row in scores)
    report = markdown_report(make_study(settings(data)), cells, scores, root)
    # Two images of two slides: a mean of groups is that of images.
    for arm in ('unet/none/semantic', 'unet/none/hover'):
        values = [row['dice'] for row in scores if row['arm'] == arm]
        assert f'| `{arm}` | {sum(values) / 2:.3f} |' in report
    assert 'unet/none/hover: Dice' in report
    assert 'no significant difference; with 2 groups and 1 arm compared the smallest p that can occur is 0.5' in report


@pytest.mark.slow
def test_a_cell_that_fails_does_not_stop_the_rest(data, tmp_path):
    broken = {'unet': 'unet', 'parts': {'backbone': {'widths': [4, 8, -1]}}}
    cells = cells_of(data, arms=[broken | {'head': 'boundary'}, {'unet': 'unet', 'parts': SMALL}])
    with pytest.raises(UserError, match=r'1 of 2 cells failed; the others are done:\nunet/none/boundary default'):
        run_cells(cells, tmp_path, processes=1)
    assert [cell_state(tmp_path, cell) for cell in cells] == ['failed', 'done']
    assert 'give whole numbers from 1' in (cell_folder(tmp_path, cells[0]) / 'failed.txt').read_text()
