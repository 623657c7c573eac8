"""Starts the runs of a study, each as a process in a folder of its own, and says how far they are."""

import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from statistics import mean
from types import TracebackType

from tqdm import tqdm

from mmgfnuc.errors import UserError

from .engines import ENGINES, Setting
from .runs import Run
from .storage import (
    BEGUN,
    DIVERGED,
    DONE,
    ENDED,
    FAILED,
    LOCK,
    LOG,
    OPEN,
    SCORED,
    is_locked,
    prepare_folder,
    read_record,
    read_report,
    record_failure,
    run_folder,
    run_state,
)

RUNNING = 'running'
STATES = (DONE, RUNNING, SCORED, DIVERGED, FAILED, BEGUN, OPEN)
LOG_LINES = 15
REFRESH_SECONDS = 1.0


class FailedRunsError(UserError):
    """Some runs of a study have failed; the others are done."""


def run_all(
    runs: Sequence[Run],
    root: str | Path,
    processes: int | None = None,
    engine: str = 'local',
    cache_gb: float | None = None,
) -> None:
    """Start the runs that have not ended; interrupted ones go on from their last checkpoint, failed ones begin again.

    A run that fails is recorded, and the others run all the same. One that diverges has ended with that result: its
    training would do so again. Ctrl-C and SIGTERM end all that runs; the next call goes on from there. So does a call
    after SIGKILL, which may leave processes behind: they finish their runs, and the call waits for them, as no run
    is at work twice at a time.

    Args:
        runs: of a study.
        root: folder of the runs, `<root>/<key>/` for each run. Under `ray`, every node has to see it, and the data,
            under the same path.
        processes: how many run at a time, see `devices`; under `ray` by default as many as the cluster has room for.
        engine: `local`, or `ray` for the tasks of a Ray cluster, see `ray_engine`. Scores do not depend on it.
        cache_gb: keep the features of frozen foundation encoders in `<root>/../features`, at most so many gigabytes
            (10**9 bytes), for all runs. Scores stay the same. Times of training do not: a run that finds its
            features is faster than the one that computed them.

    Raises:
        UserError: there is no such engine, or it does not start.
        FailedRunsError: some runs have failed; names them and their logs.
    """
    if engine not in ENGINES:
        raise UserError(f"engine='{engine}' is unknown; choose one of {', '.join(ENGINES)}")
    root = Path(root).resolve()
    imports = dict.fromkeys(name for run in runs for name in run.imports)
    waiting = iter([run for run in runs if run_state(root, run) not in ENDED])
    failures: list[str] = []
    jobs: dict[Future[int], Run] = {}
    with (
        ENGINES[engine](processes, Setting(cache_gb, tuple(imports))) as submit,
        _terminated_like_interrupted(),
        StudyBar(runs, root) as bar,
    ):
        while True:
            for run in islice(waiting, processes - len(jobs) if processes else None):
                folder = run_folder(root, run)
                prepare_folder(folder, run)
                jobs[submit(folder)] = run
            if not jobs:
                break
            for job in wait(jobs, REFRESH_SECONDS, FIRST_COMPLETED).done:
                run = jobs.pop(job)
                failures += [f'{run.name}: {failure}' for failure in _failure(job, run_folder(root, run))]
            bar.show()
    if failures:
        said = f'{len(failures)} of {len(runs)} runs failed; the others are done:'
        raise FailedRunsError('\n'.join([said, *failures]))


def _failure(job: 'Future[int]', folder: Path) -> list[str]:
    """Record that a run has failed, with the end of its log; return a line for it, or none."""
    log = folder / LOG
    try:
        code = job.result()
    except Exception as error:  # its process was not started or got lost, with the node of a cluster for one
        record_failure(folder, f'{type(error).__name__}: {error}')
        return [f'{type(error).__name__}, {error}']
    if not code:
        return []
    record_failure(folder, '\n'.join(log.read_text(encoding='utf-8', errors='replace').splitlines()[-LOG_LINES:]))
    return [f'exit code {code}, log {log}']


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM, as of `kill` or of a batch system, do what Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        run: which.
        state: as of `run_state`, or `running`.
        phase: what its process does.
        step: steps that are trained.
    """

    run: Run
    state: str
    phase: str
    step: int


def run_progress(root: Path, run: Run) -> Progress:
    """Read how far a run is, without disturbing it."""
    folder = run_folder(root, run)
    state = run_state(root, run)
    if state == DONE:
        return Progress(run, DONE, '', run.steps)
    if is_locked(folder / LOCK):
        state = RUNNING
    told = read_report(folder)
    return Progress(run, state, told['phase'], told['step'])


class StudyBar:
    """One bar over all steps of a study, those of earlier calls as a beginning that does not count for the speed."""

    def __init__(self, runs: Sequence[Run], root: Path) -> None:
        self.runs, self.root = runs, root

    def __enter__(self) -> 'StudyBar':
        progress = self._progress()
        steps, total = sum(one.step for one in progress), sum(run.steps for run in self.runs)
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
    known = [f'{counts[state]} {state}' for state in STATES if counts[state]]
    return f'{len(progress)} runs: {", ".join(known)}'


def _doing(progress: Progress) -> str:
    return f'step {progress.step} of {progress.run.steps}' if progress.phase == 'training' else progress.phase


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
            record = read_record(run_folder(root, one.run))
            for key in (one.run.arm.name, None):
                speeds[key].append((record['train_seconds'] + record['test_seconds']) / one.run.steps)
    if not speeds:
        return ['time left: not known before a run is done']
    seconds = sum(
        (one.run.steps - one.step) * mean(speeds.get(one.run.arm.name, speeds[None]))
        for one in progress
        if one.state not in (*ENDED, FAILED)
    )
    return [f'time left: about {timedelta(minutes=round(seconds / running / 60))}, with {running} at a time']
