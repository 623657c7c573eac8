"""Engines start each run as a process of its own: on this machine, or as tasks of a Ray cluster.

The process is the same under every engine, so that what a run scores cannot depend on who started it.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any
from uuid import uuid4

from mmgfnuc.errors import UserError

from .storage import LOG

# A thread of a CPU: sums of several threads are rounded in another order.
ONE_THREAD = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}
POLL_SECONDS = 0.2
# Tasks pass on next to nothing: Ray's least, instead of a third of the memory.
OBJECT_STORE_BYTES = 80 * 10**6
CANCEL_SECONDS = 30.0


@dataclass(frozen=True)
class Setting:
    """What the processes of a study have in common, on this machine or on another.

    Attributes:
        cache_gb: limit of the feature cache that runs share; None for no cache.
        imports: modules with parts of one's own.
        work_dir: paths of the configs are relative to it.
        variables: of the environment, that say where weights, data and modules are.
    """

    cache_gb: float | None = None
    imports: Sequence[str] = ()
    work_dir: str = field(default_factory=os.getcwd)
    variables: Mapping[str, str] = field(
        default_factory=lambda: {
            key: value for key, value in os.environ.items() if key.startswith('MMGFNUC_') or key == 'PYTHONPATH'
        }
    )


def run_process(folder: Path, setting: Setting, device: Mapping[str, str], stop: Callable[[], bool]) -> int:
    """Start the process of a run, its output added to `log.txt` there; return the exit code.

    The process is killed, with those that it started, when `stop` says so, or when an exception (Ctrl-C, the
    cancellation of a task) comes out of the waiting.
    """
    # -P: modules of the working folder are found last, as the process that made the key of the run finds them.
    command = [sys.executable, '-P', '-m', 'mmgfnuc.studies.worker', str(folder)]
    # Named here, and not by the folder of the run: that is data, which names no code to import.
    command += ['--imports', *setting.imports] if setting.imports else []
    command += [] if setting.cache_gb is None else ['--cache-gb', str(setting.cache_gb)]
    with (folder / LOG).open('a', encoding='utf-8') as log:
        print(f'== {time.strftime("%Y-%m-%d %H:%M:%S")}', file=log, flush=True)
        # In a group of its own, Ctrl-C in a terminal reaches it by way of this function alone, and once.
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **setting.variables, **device},
            cwd=setting.work_dir,
            process_group=0,
        )
    try:
        while process.poll() is None and not stop():
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode


def devices(processes: int | None = None) -> list[dict[str, str]]:
    """Environment of each process: one GPU, or one thread of a CPU, so that scores do not depend on how many run.

    Those are counted that this process may use, by `$CUDA_VISIBLE_DEVICES` and by the cores that it is bound to.

    Args:
        processes: how many; by default one for each GPU, or for each core where there is none.
    """
    import torch  # not above: to say how far a study is takes no PyTorch

    gpus = torch.cuda.device_count()
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = visible.split(',')[:gpus] if visible else [str(index) for index in range(gpus)]
    single = [{'CUDA_VISIBLE_DEVICES': name.strip()} for name in names] or [ONE_THREAD] * len(os.sched_getaffinity(0))
    return list(islice(cycle(single), processes or len(single)))


@contextmanager
def local_engine(processes: int | None, setting: Setting) -> Iterator[Callable[[Path], Future[int]]]:
    """Give a function that starts the run of a folder as soon as a device is free; at the end all are killed."""
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


@contextmanager
def ray_engine(processes: int | None, setting: Setting) -> Iterator[Callable[[Path], 'Future[int]']]:
    """Give a function that starts the run of a folder as a task; at the end all are killed.

    Taken is the cluster that this process is connected to, else the one of `$RAY_ADDRESS` or of `ray start` on this
    machine, else a new one here, which is ended again. A task takes a GPU where the cluster has any, else a core.
    Every node needs this package, and has to see the folders of runs, data and weights under the same paths.

    Args:
        processes: most tasks at a time on a new cluster; by default one for each core or GPU.
        setting: of the processes.

    Raises:
        UserError: Ray is not installed, or there is no cluster at `$RAY_ADDRESS`.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, processes)
    gpus = ray.cluster_resources().get('GPU', 0)
    task = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(run_process)
    tasks: list[Any] = []
    name, marks = f'.stop-{uuid4().hex}', set()

    def submit(folder: Path) -> Future[int]:
        mark = folder.parent / name
        marks.add(mark)
        tasks.append(task.remote(folder, setting, {} if gpus else ONE_THREAD, mark.exists))
        return tasks[-1].future()

    try:
        yield submit
    finally:
        _end(ray, tasks, marks)
        if ours:
            ray.shutdown()


def _end(ray: Any, tasks: list[Any], marks: set[Path]) -> None:
    """Let tasks that run kill their processes, and those that wait never begin; return when they have.

    Ray's cancellation alone does not suffice: it interrupts a task once, and an interrupt may get lost.
    """
    for mark in marks:
        mark.touch()
    for reference in tasks:
        ray.cancel(reference)
    if tasks:
        ray.wait(tasks, num_returns=len(tasks), timeout=CANCEL_SECONDS)
    for mark in marks:
        mark.unlink()


def _ray() -> Any:
    """Import Ray, which sends no statistics of its use from here."""
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    # What Ray will do from its next release on; it asks to be told that this is known.
    os.environ.setdefault('RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO', '0')
    try:
        import ray
    except ImportError as error:
        raise UserError("engine='ray': Ray is not installed; run pip install 'mmgfnuc[ray]'") from error
    return ray


def _connect(ray: Any, processes: int | None) -> None:
    quiet = dict(logging_level=logging.ERROR, log_to_driver=False)
    try:
        ray.init(address='auto', **quiet)
    except ConnectionError as error:
        if 'RAY_ADDRESS' in os.environ:
            address = os.environ['RAY_ADDRESS']
            raise UserError(f'RAY_ADDRESS={address}: no cluster answers there; start it, or unset it') from error
        _start(ray, num_cpus=processes, object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False, **quiet)


def _start(ray: Any, **settings: Any) -> None:
    try:
        ray.init(address='local', **settings)
    except Exception as error:  # Ray's own, of no narrower type, when its processes take more than 30 seconds
        raise UserError(f"engine='ray': Ray does not start on this machine ({error}); use engine='local'") from error


ENGINES = {'local': local_engine, 'ray': ray_engine}
