"""Runs runs as tasks of a Ray cluster, one that exists or one on this machine."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from mmgfnuc.errors import UserError

from .processes import ONE_THREAD, Setting, run_process

# Tasks pass on next to nothing: Ray's least, instead of a third of the memory.
OBJECT_STORE_BYTES = 80 * 10**6
CANCEL_SECONDS = 30.0


@contextmanager
def ray_engine(processes: int | None, setting: Setting) -> Iterator[Callable[[Path], 'Future[int]']]:
    """Give a function that runs the run of a folder as a task; at the end all are killed.

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
