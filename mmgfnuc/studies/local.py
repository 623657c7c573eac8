"""Runs the runs of a study: each as a process in a folder of its own, on this machine or on a Ray cluster."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import torch

from mmgfnuc.errors import UserError

from .folders import ENDED, LOG, prepare_folder, record_failure, run_folder, run_state
from .processes import ONE_THREAD, Setting, run_process
from .progress import StudyBar
from .ray_engine import ray_engine
from .runs import Run

LOG_LINES = 15
REFRESH_SECONDS = 1.0


class FailedRunsError(UserError):
    """Some runs of a study have failed; the others are done."""


def devices(processes: int | None = None) -> list[dict[str, str]]:
    """Environment of each process: one GPU, or one thread of a CPU, so that scores do not depend on how many run.

    Those are counted that this process may use, by `$CUDA_VISIBLE_DEVICES` and by the cores that it is bound to.

    Args:
        processes: how many; by default one for each GPU, or for each core where there is none.
    """
    gpus = torch.cuda.device_count()
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = visible.split(',')[:gpus] if visible else [str(index) for index in range(gpus)]
    single = [{'CUDA_VISIBLE_DEVICES': name.strip()} for name in names] or [ONE_THREAD] * len(os.sched_getaffinity(0))
    return list(islice(cycle(single), processes or len(single)))


@contextmanager
def local_engine(processes: int | None, setting: Setting) -> Iterator[Callable[[Path], Future[int]]]:
    """Give a function that runs the run of a folder as soon as a device is free; at the end all are killed."""
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for device in devices(processes):
        free.put(device)
    stop = Event()

    def start(folder: Path) -> int:
        device = free.get()
        try:
            return run_process(folder, setting, device, stop.is_set)
        finally:
            free.put(device)

    pool = ThreadPoolExecutor(free.qsize())
    try:
        yield lambda folder: pool.submit(start, folder)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        stop.set()
        pool.shutdown()


ENGINES = {'local': local_engine, 'ray': ray_engine}


def run_all(
    runs: Sequence[Run],
    root: str | Path,
    processes: int | None = None,
    engine: str = 'local',
    cache_gb: float | None = None,
) -> None:
    """Run the runs that have not ended; interrupted ones go on from their last checkpoint, failed ones begin again.

    A run that fails is recorded, and the others run all the same. One that diverges has ended with that result: its
    training would do so again. Ctrl-C and SIGTERM end all that runs; the next call goes on from there. So does a call
    after SIGKILL, which may leave processes behind: they finish their runs, and the call waits for them, as no run
    runs twice at a time.

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
    waiting = iter([run for run in runs if run_state(root, run) not in ENDED])
    failures: list[str] = []
    jobs: dict[Future[int], Run] = {}
    with (
        ENGINES[engine](processes, Setting(cache_gb)) as submit,
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
