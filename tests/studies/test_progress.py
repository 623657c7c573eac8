"""How far a study is, read from folders that are written here by hand."""

import fcntl
import json
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmgfnuc.studies import progress
from mmgfnuc.studies.folders import (
    cell_folder,
    cell_state,
    divergence,
    last_step,
    prepare_folder,
    record_divergence,
    record_failure,
)
from mmgfnuc.studies.local import run_cells
from mmgfnuc.studies.progress import (
    Progress,
    ReportHook,
    StudyBar,
    cell_progress,
    peak_megabytes,
    report,
    status_lines,
)

RUN = {'peak_mb': 1, 'cached': False, 'versions': {}, 'hardware': 'CPU', 'weights_sha256': None, 'commit': None}


@pytest.fixture
def cells(cells_of):
    """Four cells of two arms."""
    return cells_of(seeds=[0, 1], steps=100)


@pytest.fixture
def lock():
    """Hold the locks of cells as their processes would."""
    files = []

    def hold(root, cell):
        files.append((cell_folder(root, cell) / 'lock').open('w'))
        fcntl.flock(files[-1], fcntl.LOCK_EX)

    yield hold
    for file in files:
        file.close()


def begin(root, cell, phase='training', step=0):
    prepare_folder(cell_folder(root, cell), cell)
    (cell_folder(root, cell) / 'log.txt').write_text('')
    report(cell_folder(root, cell), phase, step)


def finish(root, cell, seconds):
    begin(root, cell, 'examining', 100)
    run = {**RUN, 'train_seconds': seconds - 1.0, 'test_seconds': 1.0}
    (cell_folder(root, cell) / 'run.json').write_text(json.dumps(run))
    (cell_folder(root, cell) / 'findings.json').write_text('{}')


def test_steps_are_those_of_the_config(cells):
    assert [last_step(cell) for cell in cells] == [100] * 4
    assert Config.fromstring(cells[0].config, '.py').train_cfg.max_iters == 100


def test_states_of_a_cell(cells, tmp_path, lock):
    cell = cells[0]
    folder = cell_folder(tmp_path, cell)
    assert cell_progress(tmp_path, cell) == Progress(cell, 'open', 'starting', 0, 100)
    prepare_folder(folder, cell)
    assert cell_state(tmp_path, cell) == 'open'
    begin(tmp_path, cell, step=20)
    assert cell_progress(tmp_path, cell) == Progress(cell, 'begun', 'training', 20, 100)
    record_failure(folder, 'why')
    assert cell_progress(tmp_path, cell).state == 'failed'
    assert (folder / 'failed.txt').read_text() == 'why\n'
    lock(tmp_path, cell)
    assert cell_progress(tmp_path, cell).state == 'running'
    prepare_folder(folder, cell)
    # Trained and scored, but not examined.
    (folder / 'run.json').write_text('{}')
    assert cell_state(tmp_path, cell) == 'begun'
    (folder / 'findings.json').write_text('{}')
    assert cell_progress(tmp_path, cell) == Progress(cell, 'done', '', 100, 100)


def test_a_cell_that_diverged_has_ended(cells, tmp_path):
    cell = cells[0]
    begin(tmp_path, cell, step=20)
    (cell_folder(tmp_path, cell) / 'config.py').unlink()
    record_divergence(cell_folder(tmp_path, cell), 'why')
    assert cell_progress(tmp_path, cell) == Progress(cell, 'diverged', 'training', 20, 100)
    assert divergence(tmp_path, cell) == 'why'
    assert '1 diverged' in status_lines(cells, tmp_path)[0]
    run_cells([cell], tmp_path, processes=1)
    assert not (cell_folder(tmp_path, cell) / 'config.py').exists(), 'it is not run again'


def test_status_of_a_study_that_runs(cells, tmp_path, lock):
    """One cell of the first arm took 1200 s; 50 steps of an arm without speed are left, two at a time.

    That which has failed does not count.
    """
    finish(tmp_path, cells[0], 1200)
    begin(tmp_path, cells[1], step=50)
    begin(tmp_path, cells[2], 'scoring', 100)
    begin(tmp_path, cells[3])
    record_failure(cell_folder(tmp_path, cells[3]), 'why')
    lock(tmp_path, cells[1])
    lock(tmp_path, cells[2])
    assert status_lines(cells, tmp_path) == [
        '4 cells: 1 done, 2 running, 1 failed',
        f'running: {cells[1].name}, step 50 of 100',
        f'running: {cells[2].name}, scoring',
        f'failed: {cells[3].name}, log {cell_folder(tmp_path, cells[3]) / "log.txt"}',
        # 50 steps of 12 s, two at a time.
        'time left: about 0:05:00, with 2 at a time',
    ]


def test_arms_have_their_own_speed(cells, tmp_path, lock):
    """100 steps of 1 s and 100 of 3 s are left."""
    finish(tmp_path, cells[0], 100)
    finish(tmp_path, cells[1], 300)
    begin(tmp_path, cells[2])
    lock(tmp_path, cells[2])
    assert status_lines(cells, tmp_path)[-1] == 'time left: about 0:07:00, with 1 at a time'


def test_status_of_a_study_without_speed(cells, tmp_path, lock):
    assert status_lines(cells, tmp_path) == ['4 cells: 4 open']
    begin(tmp_path, cells[0])
    assert status_lines(cells, tmp_path) == ['4 cells: 1 begun, 3 open']
    lock(tmp_path, cells[0])
    assert status_lines(cells, tmp_path)[-1] == 'time left: not known before a cell is done'


def test_bar_counts_the_steps_of_all_cells(cells, tmp_path, lock, capsys):
    finish(tmp_path, cells[0], 100)
    begin(tmp_path, cells[1], step=60)
    with StudyBar(cells, tmp_path) as bar:
        assert (bar.bar.initial, bar.bar.total) == (160, 400)
        # Its last checkpoint is of step 40.
        begin(tmp_path, cells[1], step=40)
        lock(tmp_path, cells[1])
        bar.show()
        assert bar.bar.n == 160
        report(cell_folder(tmp_path, cells[1]), 'training', 80)
        begin(tmp_path, cells[2])
        record_failure(cell_folder(tmp_path, cells[2]), 'why')
    assert bar.bar.n == 180
    assert '180/400' in capsys.readouterr().err.splitlines()[-1]


def test_counts_beside_the_bar(cells, tmp_path, lock, capsys):
    finish(tmp_path, cells[0], 100)
    begin(tmp_path, cells[1])
    lock(tmp_path, cells[1])
    with StudyBar(cells, tmp_path):
        pass
    assert '1 done, 1 running, 0 failed' in capsys.readouterr().err


def test_the_memory_of_an_interrupted_process_is_kept(tmp_path, monkeypatch):
    assert peak_megabytes(tmp_path) == 0
    for held, most in ((900, 900), (1500, 1500), (700, 1500)):
        monkeypatch.setattr(progress, '_peak_bytes', lambda: held * 10**6)  # noqa: B023
        report(tmp_path, 'training', 1)
        assert peak_megabytes(tmp_path) == most
    # Of an earlier version.
    (tmp_path / 'progress.json').write_text('{"phase": "training", "step": 1}')
    assert peak_megabytes(tmp_path) == 0


def test_steps_are_reported_once_a_second(tmp_path, monkeypatch):
    """Ten steps a second, from step 4 on."""
    told = []
    monkeypatch.setattr(progress, 'report', lambda folder, phase, step: told.append((phase, step)))
    hook = ReportHook(tmp_path)
    hook.before_train(SimpleNamespace(iter=4))
    for step in range(4, 30):
        monkeypatch.setattr(progress.time, 'monotonic', lambda: 1000 + step / 10)  # noqa: B023
        hook.after_train_iter(SimpleNamespace(iter=step), 0)
    assert told == [('training', 4), ('training', 5), ('training', 15), ('training', 25)]
