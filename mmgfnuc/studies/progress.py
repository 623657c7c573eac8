"""How far a study is: what its processes report, and what can be read of it from anywhere."""

import json
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean
from types import TracebackType
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from mmgfnuc.files import read_json, write_text

from .folders import (
    BEGUN,
    DIVERGED,
    DONE,
    ENDED,
    FAILED,
    LOCK,
    LOG,
    OPEN,
    is_locked,
    last_step,
    read_record,
    run_folder,
    run_state,
)
from .runs import Run

RUNNING = 'running'
PROGRESS = 'progress.json'
REPORT_SECONDS = 1.0


def report(folder: Path, phase: str, step: int) -> None:
    """Say what the process of a run does now, how many steps are trained, and the most memory up to now.

    The memory is that of this process or of an earlier one of the run that was interrupted, whichever had more.
    """
    peak_mb = max(round(_peak_bytes() / 10**6), peak_megabytes(folder))
    write_text(folder / PROGRESS, json.dumps({'phase': phase, 'step': step, 'peak_mb': peak_mb}) + '\n')


def peak_megabytes(folder: Path) -> int:
    """Read the most memory that the processes of a run have held up to its last report; 0 before the first."""
    return read_report(folder)['peak_mb']


def read_report(folder: Path) -> dict[str, Any]:
    """Read the last report of the processes of a run; before the first they are starting.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / PROGRESS
    if not path.is_file():
        return {'phase': 'starting', 'step': 0, 'peak_mb': 0}
    return {'peak_mb': 0} | read_json(path, f'delete {path}, it is written anew', phase=str, step=int)


def _peak_bytes() -> int:
    """Most memory that this process has held: of a GPU its tensors, else all of it."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class ReportHook(Hook):
    """Report the steps of a training, at most one a second.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = 0.0

    def before_train(self, runner: Runner) -> None:
        """Report where the training begins, or goes on."""
        report(self.folder, 'training', runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Report a step."""
        if time.monotonic() - self.last >= REPORT_SECONDS:
            report(self.folder, 'training', runner.iter + 1)
            self.last = time.monotonic()


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        run: which.
        state: as of `run_state`, or `running`.
        phase: what its process does.
        step: steps that are trained.
        steps: steps in all.
    """

    run: Run
    state: str
    phase: str
    step: int
    steps: int


def run_progress(root: Path, run: Run) -> Progress:
    """Read how far a run is, without disturbing it."""
    folder = run_folder(root, run)
    state, steps = run_state(root, run), last_step(run)
    if state == DONE:
        return Progress(run, DONE, '', steps, steps)
    if is_locked(folder / LOCK):
        state = RUNNING
    told = read_report(folder)
    return Progress(run, state, told['phase'], told['step'], steps)


class StudyBar:
    """One bar over all steps of a study, those of earlier calls as a beginning that does not count for the speed."""

    def __init__(self, runs: Sequence[Run], root: Path) -> None:
        self.runs, self.root = runs, root

    def __enter__(self) -> 'StudyBar':
        progress = self._progress()
        steps, total = (sum(getattr(one, name) for one in progress) for name in ('step', 'steps'))
        self.bar = tqdm(total=total, initial=steps, desc=f'{len(self.runs)} runs', unit='step', file=sys.stderr)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.show()
        self.bar.close()

    def show(self) -> None:
        """Read how far the runs are, and draw that."""
        progress = self._progress()
        counts = Counter(one.state for one in progress)
        shown = (DONE, RUNNING, *([DIVERGED] * (counts[DIVERGED] > 0)), FAILED)
        self.bar.set_postfix_str(', '.join(f'{counts[state]} {state}' for state in shown), False)
        # A run that was interrupted goes back to its last checkpoint.
        self.bar.n = max(self.bar.initial, sum(one.step for one in progress))
        self.bar.refresh()

    def _progress(self) -> list[Progress]:
        return [run_progress(self.root, run) for run in self.runs]


def status_lines(runs: Sequence[Run], root: str | Path) -> list[str]:
    """Say how far a study is: counts, what runs, what has failed, and when it may end.

    It only reads, and may be called while the study runs, from another process or machine that sees the folder.

    Args:
        runs: of the study.
        root: folder of the runs.
    """
    root = Path(root)
    progress = [run_progress(root, run) for run in runs]
    return [
        _counts(progress),
        *(f'running: {one.run.name}, {_doing(one)}' for one in progress if one.state == RUNNING),
        *(f'failed: {one.run.name}, log {run_folder(root, one.run) / LOG}' for one in progress if one.state == FAILED),
        *_time_left(progress, root),
    ]


def _counts(progress: Sequence[Progress]) -> str:
    counts = Counter(one.state for one in progress)
    known = [f'{counts[state]} {state}' for state in (DONE, RUNNING, DIVERGED, FAILED, BEGUN, OPEN) if counts[state]]
    return f'{len(progress)} runs: {", ".join(known)}'


def _doing(progress: Progress) -> str:
    return f'step {progress.step} of {progress.steps}' if progress.phase == 'training' else progress.phase


def _time_left(progress: Sequence[Progress], root: Path) -> list[str]:
    """Estimate by the seconds that a step took in the runs that are done: those of the same arm, else all.

    A run that has failed is not run again before the next call, one that has diverged not at all.
    """
    running = sum(one.state == RUNNING for one in progress)
    if not running:
        return []
    speeds: dict[str | None, list[float]] = defaultdict(list)
    for one in progress:
        if one.state == DONE:
            run = read_record(run_folder(root, one.run))
            for key in (one.run.arm.name, None):
                speeds[key].append((run['train_seconds'] + run['test_seconds']) / one.steps)
    if not speeds:
        return ['time left: not known before a run is done']
    seconds = sum(
        (one.steps - one.step) * mean(speeds.get(one.run.arm.name, speeds[None]))
        for one in progress
        if one.state not in (*ENDED, FAILED)
    )
    return [f'time left: about {timedelta(minutes=round(seconds / running / 60))}, with {running} at a time']
