"""A study from its runs to its scores, with processes that are killed, fail and begin again."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from mmengine.config import Config

from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import META_KEYS
from mmgfnuc.studies import run_all
from mmgfnuc.studies.folders import is_locked, prepare_folder, run_folder, run_state
from mmgfnuc.studies.local import devices
from mmgfnuc.studies.processes import ONE_THREAD
from mmgfnuc.studies.runs import run_config
from mmgfnuc.studies.study import make_study
from mmgfnuc.studies.worker import _train_and_score, complete_run

SMALL = {'backbone': {'widths': [4, 8, 16]}}
ENCODER = {'foundation': {'arch': {'embed_dim': 24, 'depth': 2, 'num_heads': 2}, 'out_layers': [-1]}}
CONCAT = {'unet': 'unet', 'foundation': 'vit-tiny', 'weights': 'random', 'fusion': 'concat', 'parts': SMALL | ENCODER}
PATIENCE_SECONDS = 300
RUNNER = """
import pickle, sys
from pathlib import Path
from mmgfnuc.studies import run_all
from mmgfnuc.engine.cli import run_cli

sys.exit(run_cli(lambda: run_all(pickle.loads(Path('runs.pkl').read_bytes()), 'runs', processes=1)))
"""


def start(*command, cwd=None):
    """Start a process of Python, in a group of its own, with one thread as the engines give it."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **ONE_THREAD},
        process_group=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def start_worker(folder):
    return start('-m', 'mmgfnuc.studies.worker', str(folder))


def wait_until(condition):
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.02)


def phase_of(folder):
    path = folder / 'progress.json'
    return json.loads(path.read_text())['phase'] if path.is_file() else None


def test_a_config_is_made_of_its_parts(data):
    arm = {'foundation': 'vit-tiny', 'fusion': 'shuffled-context-image', 'head': 'hover', 'parts': SMALL}
    study = make_study(dict(title='', data='synthetic', data_root=str(data), arms=[arm], steps=4, amp=True))
    config = run_config(study, study.arms[0], 'default', 3)
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


def test_keys_follow_config_code_and_data(runs_of, monkeypatch):
    keys = [run.key for run in runs_of()]
    assert keys == [run.key for run in runs_of()]
    assert len(set(keys)) == 2
    assert not set(keys) & {run.key for run in runs_of(steps=5)}
    assert not set(keys) & {run.key for run in runs_of(seeds=[1])}
    monkeypatch.setattr('mmgfnuc.studies.runs.code_digest', lambda: 'other code')
    assert not set(keys) & {run.key for run in runs_of()}


def test_a_split_that_is_not_there(runs_of):
    with pytest.raises(UserError, match=r"split='fold-9': .* has default"):
        runs_of(splits=['fold-9'])


def test_one_process_for_each_device(monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    assert devices() == [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '1'}]
    assert [device['CUDA_VISIBLE_DEVICES'] for device in devices(3)] == ['0', '1', '0']
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    assert devices(1) == [{'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}]


def test_processes_get_what_this_one_may_use(monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2, GPU-8f3a')
    assert devices() == [{'CUDA_VISIBLE_DEVICES': '2'}, {'CUDA_VISIBLE_DEVICES': 'GPU-8f3a'}]
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.setattr('os.sched_getaffinity', lambda pid: {1, 5, 6})
    assert len(devices()) == 3


def test_an_engine_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match="engine='slurm' is unknown; choose one of local, ray"):
        run_all([], tmp_path, engine='slurm')


class BegunError(Exception):
    """In place of a training."""


def test_a_part_of_a_checkpoint_is_no_checkpoint(tmp_path, monkeypatch):
    """Of step 200 and not of step 1000, of which there is a part; nor of step 40, by its name the last."""
    for step in (40, 200, 1000):
        meta = {**{key: kind() for key, kind in META_KEYS.items()}, 'epoch': 0, 'iter': step}
        optimizer = {'state': {}, 'param_groups': [{'params': []}]}
        torch.save({'state_dict': {}, 'meta': meta, 'optimizer': optimizer}, tmp_path / f'iter_{step}.pth')
    half = tmp_path / 'iter_1000.pth'
    half.write_bytes(half.read_bytes()[:500])
    before, begun = sorted(tmp_path.iterdir()), []

    def begin(folder, checkpoint, cache):
        begun.append(checkpoint)
        raise BegunError

    monkeypatch.setattr('mmgfnuc.studies.worker._train', begin)
    monkeypatch.setattr('mmgfnuc.studies.worker._cache_settings', lambda folder, cache_gb: None)
    for folder in (tmp_path, tmp_path / 'empty'):
        with pytest.raises(BegunError):
            _train_and_score(folder, 1000, None)
    assert begun == [tmp_path / 'iter_200.pth', None]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_bytes(runs_of, assert_as_whole, tmp_path):
    """SIGKILL while it trains, scores and measures; in the end two processes begin at the same time."""
    _, run = runs_of()
    folder = run_folder(tmp_path, run)
    prepare_folder(folder, run)
    moments = [
        lambda: (folder / 'iter_4.pth').is_file(),
        lambda: phase_of(folder) == 'scoring',
        lambda: phase_of(folder) == 'measuring',
    ]
    draw = random.Random(0)
    for moment in moments:
        worker = start_worker(folder)
        wait_until(moment)
        time.sleep(draw.uniform(0.0, 0.1))
        worker.kill()
        worker.communicate()
        assert not (folder / 'inside.json').is_file()
    trained = (folder / 'run.json').read_bytes()
    workers = [start_worker(folder), start_worker(folder)]
    output = b''.join(worker.communicate()[0] for worker in workers)
    assert [worker.returncode for worker in workers] == [0, 0], output.decode()
    assert (folder / 'run.json').read_bytes() == trained
    assert_as_whole(folder)


def times_trained(folder):
    """How often the last step was saved, by the logs of all processes."""
    return sum(log.read_text().count('Saving checkpoint at 10 iterations') for log in folder.glob('*/*.log'))


@pytest.mark.slow
def test_two_that_begin_at_the_same_time_train_once(runs_of, assert_as_whole, tmp_path):
    run, _ = runs_of()
    folder = run_folder(tmp_path, run)
    prepare_folder(folder, run)
    workers = [start_worker(folder), start_worker(folder)]
    for worker in workers:
        worker.communicate()
    assert [worker.returncode for worker in workers] == [0, 0]
    assert times_trained(folder) == 1
    assert_as_whole(folder)


@pytest.mark.slow
def test_a_study_that_is_ended_or_killed_goes_on(runs_of, assert_as_whole, tmp_path):
    """SIGTERM leaves nothing running. SIGKILL of the study alone leaves a process, which is waited for."""
    run, _ = runs_of()
    folder = run_folder(tmp_path / 'runs', run)
    (tmp_path / 'runs.pkl').write_bytes(pickle.dumps([run]))
    runs = lambda: is_locked(folder / 'lock')  # noqa: E731
    for number, code in ((signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)):
        study = start('-c', RUNNER, cwd=tmp_path)
        wait_until(runs)
        study.send_signal(number)
        output, _ = study.communicate()
        assert study.returncode == code, output.decode()
        assert run_state(tmp_path / 'runs', run) == 'begun'
        assert runs() == (number == signal.SIGKILL)
    run_all([run], tmp_path / 'runs', processes=1)
    assert times_trained(folder) == 1
    assert_as_whole(folder)
    stamp = (folder / 'run.json').stat().st_mtime_ns
    run_all([run], tmp_path / 'runs', processes=1)
    assert (folder / 'run.json').stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_a_run_that_fails_does_not_stop_the_rest(runs_of, assert_as_whole, tmp_path):
    broken = {'unet': 'unet', 'parts': {'backbone': {'widths': [4, 8, -1]}}}
    runs = [*runs_of(arms=[broken]), runs_of()[0]]
    with pytest.raises(UserError, match=r'1 of 2 runs failed; the others are done:\nunet/none/semantic default'):
        run_all(runs, tmp_path, processes=1)
    assert [run_state(tmp_path, run) for run in runs] == ['failed', 'done']
    assert 'give whole numbers from 1' in (run_folder(tmp_path, runs[0]) / 'failed.txt').read_text()
    assert_as_whole(run_folder(tmp_path, runs[1]))


@pytest.mark.slow
def test_a_run_that_diverges_has_ended_without_scores(runs_of, tmp_path):
    """It is no failure, and not run again."""
    (run,) = runs_of(arms=[{'unet': 'unet', 'parts': SMALL}])
    run = replace(run, config=run.config.replace('lr=0.001', 'lr=1e+30'))
    run_all([run], tmp_path, processes=1)
    folder = run_folder(tmp_path, run)
    assert run_state(tmp_path, run) == 'diverged'
    assert (folder / 'diverged.txt').read_text().startswith('training diverged: ')
    assert not (folder / 'test').exists()
    log = (folder / 'log.txt').read_text()
    run_all([run], tmp_path, processes=1)
    assert (folder / 'log.txt').read_text() == log


def test_a_config_in_the_folder_of_a_run_is_not_run(runs_of, tmp_path):
    run, _ = runs_of()
    folder = run_folder(tmp_path, run)
    prepare_folder(folder, run)
    (folder / 'config.py').write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{run.config}")
    with pytest.raises(UserError, match=r'config\.py is not read: line 1 is no setting'):
        complete_run(folder)
    assert not (tmp_path / 'ran').exists()


@pytest.mark.slow
def test_runs_share_features_and_keep_their_scores(runs_of, assert_as_whole, tmp_path):
    """The second arm sees the same images through the same encoder: nothing is computed anew."""
    root = tmp_path / 'runs'
    _, context = runs_of()
    run_all([context], root, cache_gb=0.1)
    assert_as_whole(run_folder(root, context))
    features = sorted(tmp_path.glob('features/*/*.features'))
    # 10 steps of 2 augmented images, and 2 that are scored.
    assert len(features) == 22
    (concat,) = runs_of(arms=[CONCAT])
    run_all([concat], root, cache_gb=0.1)
    assert sorted(tmp_path.glob('features/*/*.features')) == features
    for run in (context, concat):
        assert json.loads((run_folder(root, run) / 'run.json').read_text())['cached']
        checkpoint = torch.load(run_folder(root, run) / 'iter_10.pth', weights_only=False)
        assert 'cache' not in Config.fromstring(checkpoint['meta']['cfg'], '.py').model.foundation
