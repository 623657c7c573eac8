"""Runs as tasks of a Ray cluster: the same scores, failures and interruptions as on one machine alone."""

import sys
import time

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.studies import run_all
from mmgfnuc.studies.engines import Setting, ray_engine
from mmgfnuc.studies.storage import is_locked, prepare_folder, run_folder, run_state

PATIENCE_SECONDS = 300


def wait_until(condition):
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.1)


def test_without_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(UserError, match=r"Ray is not installed; run pip install 'mmgfnuc\[ray\]'"):
        run_all([], tmp_path, engine='ray')


@pytest.mark.parametrize(
    ('address', 'words'),
    [
        ('127.0.0.1:1', 'RAY_ADDRESS=127.0.0.1:1: no cluster answers there; start it, or unset it'),
        (None, r"Ray does not start on this machine \(timed out\); use engine='local'"),
    ],
)
def test_no_cluster(tmp_path, monkeypatch, address, words):
    def refuse(address, **_):
        raise ConnectionError if address == 'auto' else Exception('timed out')

    pytest.importorskip('ray')
    monkeypatch.setattr('ray.init', refuse)
    if address:
        monkeypatch.setenv('RAY_ADDRESS', address)
    else:
        monkeypatch.delenv('RAY_ADDRESS', raising=False)
    with pytest.raises(UserError, match=words):
        run_all([], tmp_path, engine='ray')


@pytest.mark.slow
def test_a_cluster_of_its_own_gives_the_same_scores(runs_of, assert_as_whole, tmp_path):
    ray = pytest.importorskip('ray')
    broken = {'unet': 'unet', 'parts': {'backbone': {'widths': [4, 8, -1]}}}
    bad = runs_of(arms=[broken])
    with pytest.raises(UserError, match=r'1 of 3 runs failed; the others are done:\nunet/none/semantic default'):
        run_all([*bad, *runs_of()], tmp_path, processes=2, engine='ray')
    assert not ray.is_initialized()
    assert run_state(tmp_path, bad[0]) == 'failed'
    assert 'give whole numbers from 1' in (run_folder(tmp_path, bad[0]) / 'failed.txt').read_text()
    for run in runs_of():
        assert_as_whole(run_folder(tmp_path, run))


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
