"""How far a study is, read from folders that are written here by hand."""

import fcntl
import json
from types import SimpleNamespace

import pytest

from mmgfnuc.errors import UserError
from mmgfnuc.studies import worker
from mmgfnuc.studies.engines import devices
from mmgfnuc.studies.scheduling import Progress, StudyBar, run_all, run_progress, status_lines
from mmgfnuc.studies.storage import (
    divergence,
    inside_file,
    prepare_folder,
    read_report,
    record_divergence,
    record_failure,
    run_folder,
    run_state,
)
from mmgfnuc.studies.worker import ReportHook, report

RECORD = {'peak_mb': 1, 'cached': False, 'versions': {}, 'hardware': 'CPU', 'weights_sha256': None, 'commit': None}


@pytest.fixture
def runs(runs_of):
    """Four runs of two arms."""
    return runs_of(seeds=[0, 1], steps=100)


@pytest.fixture
def lock():
    """Hold the locks of runs as their processes would."""
    files = []

    def hold(root, run):
        files.append((run_folder(root, run) / 'lock').open('w'))
        fcntl.flock(files[-1], fcntl.LOCK_EX)

    yield hold
    for file in files:
        file.close()


def begin(root, run, phase='training', step=0):
    prepare_folder(run_folder(root, run), run)
    (run_folder(root, run) / 'log.txt').write_text('')
    report(run_folder(root, run), phase, step)


def finish(root, run, seconds):
    begin(root, run, 'looking inside', 100)
    record = {**RECORD, 'train_seconds': seconds - 1.0, 'test_seconds': 1.0}
    (run_folder(root, run) / 'run.json').write_text(json.dumps(record))
    inside_file(run_folder(root, run)).write_text('{}')


def test_states_of_a_run(runs, tmp_path, lock):
    run = runs[0]
    folder = run_folder(tmp_path, run)
    assert run_progress(tmp_path, run) == Progress(run, 'open', 'starting', 0)
    prepare_folder(folder, run)
    assert run_state(tmp_path, run) == 'open'
    begin(tmp_path, run, step=20)
    assert run_progress(tmp_path, run) == Progress(run, 'begun', 'training', 20)
    record_failure(folder, 'why')
    assert run_progress(tmp_path, run).state == 'failed'
    assert (folder / 'failed.txt').read_text() == 'why\n'
    lock(tmp_path, run)
    assert run_progress(tmp_path, run).state == 'running'
    prepare_folder(folder, run)
    # Trained and scored; what is seen inside the model is missing, or is that of other code.
    (folder / 'run.json').write_text('{}')
    (folder / 'inside-12345678.json').write_text('{}')
    assert run_state(tmp_path, run) == 'scored'
    inside_file(folder).write_text('{}')
    assert run_progress(tmp_path, run) == Progress(run, 'done', '', 100)


def test_a_run_that_diverged_has_ended(runs, tmp_path):
    run = runs[0]
    begin(tmp_path, run, step=20)
    (run_folder(tmp_path, run) / 'config.py').unlink()
    record_divergence(run_folder(tmp_path, run), 'why')
    assert run_progress(tmp_path, run) == Progress(run, 'diverged', 'training', 20)
    assert divergence(tmp_path, run) == 'why'
    assert '1 diverged' in status_lines(runs, tmp_path)[0]
    run_all([run], tmp_path, processes=1)
    assert not (run_folder(tmp_path, run) / 'config.py').exists(), 'it is not run again'


def test_status_of_a_study_that_runs(runs, tmp_path, lock):
    """One run of the first arm took 1200 s; 50 steps of an arm without speed are left, two at a time.

    That which has failed does not count.
    """
    finish(tmp_path, runs[0], 1200)
    begin(tmp_path, runs[1], step=50)
    begin(tmp_path, runs[2], 'scoring', 100)
    begin(tmp_path, runs[3])
    record_failure(run_folder(tmp_path, runs[3]), 'why')
    lock(tmp_path, runs[1])
    lock(tmp_path, runs[2])
    assert status_lines(runs, tmp_path) == [
        '4 runs: 1 done, 2 running, 1 failed',
        f'running: {runs[1].name}, step 50 of 100',
        f'running: {runs[2].name}, scoring',
        f'failed: {runs[3].name}, log {run_folder(tmp_path, runs[3]) / "log.txt"}',
        # 50 steps of 12 s, two at a time.
        'time left: about 0:05:00, with 2 at a time',
    ]


def test_time_left(runs, tmp_path, lock):
    """Arms have their own speed: 100 steps of 1 s and 100 of 3 s are left."""
    assert status_lines(runs, tmp_path) == ['4 runs: 4 open']
    begin(tmp_path, runs[0])
    assert status_lines(runs, tmp_path) == ['4 runs: 1 begun, 3 open']
    lock(tmp_path, runs[0])
    assert status_lines(runs, tmp_path)[-1] == 'time left: not known before a run is done'
    finish(tmp_path, runs[0], 100)
    finish(tmp_path, runs[1], 300)
    begin(tmp_path, runs[2])
    lock(tmp_path, runs[2])
    assert status_lines(runs, tmp_path)[-1] == 'time left: about 0:07:00, with 1 at a time'


def test_bar_counts_the_steps_of_all_runs(runs, tmp_path, lock, capsys):
    finish(tmp_path, runs[0], 100)
    begin(tmp_path, runs[1], step=60)
    with StudyBar(runs, tmp_path) as bar:
        assert (bar.bar.initial, bar.bar.total) == (160, 400)
        # Its last checkpoint is of step 40.
        begin(tmp_path, runs[1], step=40)
        lock(tmp_path, runs[1])
        bar.show()
        assert bar.bar.n == 160
        report(run_folder(tmp_path, runs[1]), 'training', 80)
        begin(tmp_path, runs[2])
        record_failure(run_folder(tmp_path, runs[2]), 'why')
    assert bar.bar.n == 180
    last = capsys.readouterr().err.splitlines()[-1]
    assert '180/400' in last
    assert '1 done, 1 running, 1 failed' in last


def test_the_memory_of_an_interrupted_process_is_kept(tmp_path, monkeypatch):
    assert read_report(tmp_path)['peak_mb'] == 0
    for held, most in ((900, 900), (1500, 1500), (700, 1500)):
        monkeypatch.setattr(worker, '_peak_bytes', lambda: held * 10**6)  # noqa: B023
        report(tmp_path, 'training', 1)
        assert read_report(tmp_path)['peak_mb'] == most


def test_steps_are_reported_once_a_second(tmp_path, monkeypatch):
    """Ten steps a second, from step 4 on."""
    told = []
    monkeypatch.setattr(worker, 'report', lambda folder, phase, step: told.append((phase, step)))
    hook = ReportHook(tmp_path)
    hook.before_train(SimpleNamespace(iter=4))
    for step in range(4, 30):
        monkeypatch.setattr(worker.time, 'monotonic', lambda: 1000 + step / 10)  # noqa: B023
        hook.after_train_iter(SimpleNamespace(iter=step), 0)
    assert told == [('training', 4), ('training', 5), ('training', 15), ('training', 25)]


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
