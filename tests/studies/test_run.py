"""A study from its runs to its scores, with processes that are killed, fail and begin again; on a Ray cluster too."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from mmengine.config import Config

from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import META_KEYS
from mmgfnuc.studies import run_all
from mmgfnuc.studies.engines import ONE_THREAD, Setting, ray_engine
from mmgfnuc.studies.storage import is_done, is_locked, prepare_folder, run_folder, run_state
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
    """SIGKILL while it trains, scores and looks inside; in the end two processes begin at the same time."""
    _, run = runs_of()
    folder = run_folder(tmp_path, run)
    prepare_folder(folder, run)
    moments = [
        lambda: (folder / 'iter_4.pth').is_file(),
        lambda: phase_of(folder) == 'scoring',
        lambda: phase_of(folder) == 'looking inside',
    ]
    draw = random.Random(0)
    for moment in moments:
        worker = start_worker(folder)
        wait_until(moment)
        time.sleep(draw.uniform(0.0, 0.1))
        worker.kill()
        worker.communicate()
        assert not is_done(folder)
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
def test_a_run_that_fails_or_diverges_does_not_stop_the_rest(runs_of, assert_as_whole, tmp_path):
    """Another process has begun with the good one: it is trained once. What has diverged is not run again."""
    broken = {'unet': 'unet', 'parts': {'backbone': {'widths': [4, 8, -1]}}}
    (bad,), (wild,), good = runs_of(arms=[broken]), runs_of(arms=[{'unet': 'unet', 'parts': SMALL}]), runs_of()[0]
    wild.config['optim_wrapper']['optimizer']['lr'] = 1e30
    folders = [run_folder(tmp_path, run) for run in (bad, wild, good)]
    prepare_folder(folders[2], good)
    worker = start_worker(folders[2])
    with pytest.raises(UserError, match=r'1 of 3 runs failed; the others are done:\nunet/none/semantic default'):
        run_all([bad, wild, good], tmp_path, processes=2)
    assert worker.wait() == 0
    assert [run_state(tmp_path, run) for run in (bad, wild, good)] == ['failed', 'diverged', 'done']
    assert 'give whole numbers from 1' in (folders[0] / 'failed.txt').read_text()
    assert (folders[1] / 'diverged.txt').read_text().startswith('training diverged: ')
    assert not (folders[1] / 'test').exists()
    assert times_trained(folders[2]) == 1
    assert_as_whole(folders[2])
    log = (folders[1] / 'log.txt').read_text()
    run_all([wild], tmp_path, processes=1)
    assert (folders[1] / 'log.txt').read_text() == log


def test_a_config_in_the_folder_of_a_run_is_not_run(runs_of, tmp_path):
    run, _ = runs_of()
    folder = run_folder(tmp_path, run)
    prepare_folder(folder, run)
    (folder / 'config.py').write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError, match=r'config\.py is not read: line 1 is not a setting'):
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


@pytest.mark.slow
def test_a_cluster_of_its_own_gives_the_same_scores(runs_of, assert_as_whole, tmp_path):
    ray = pytest.importorskip('ray')
    broken = {'unet': 'unet', 'parts': {'backbone': {'widths': [4, 8, -1]}}}
    (bad,), (_, good) = runs_of(arms=[broken]), runs_of()
    with pytest.raises(UserError, match=r'1 of 2 runs failed; the others are done:\nunet/none/semantic default'):
        run_all([bad, good], tmp_path, processes=2, engine='ray')
    assert not ray.is_initialized()
    assert run_state(tmp_path, bad) == 'failed'
    assert 'give whole numbers from 1' in (run_folder(tmp_path, bad) / 'failed.txt').read_text()
    assert_as_whole(run_folder(tmp_path, good))


@pytest.mark.slow
def test_a_cluster_that_is_there_is_used_and_left(runs_of, tmp_path):
    """What runs at the end of a study, because of Ctrl-C for one, is killed; the cluster is not."""
    ray = pytest.importorskip('ray')
    (run,) = runs_of(arms=[{'unet': 'unet'}], steps=10**6)
    folder = run_folder(tmp_path, run)
    prepare_folder(folder, run)
    ray.init(address='local', num_cpus=1, object_store_memory=80 * 10**6, include_dashboard=False, log_to_driver=False)
    try:
        with ray_engine(None, Setting()) as submit:
            job = submit(folder)
            wait_until((folder / 'progress.json').is_file)
            assert is_locked(folder / 'lock')
            assert not job.done()
        wait_until(lambda: not is_locked(folder / 'lock'))
        assert ray.is_initialized()
        assert run_state(tmp_path, run) == 'begun'
    finally:
        ray.shutdown()
