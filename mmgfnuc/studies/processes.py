"""A run as a process of its own, the same under every engine: what a run scores cannot depend on who started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .folders import LOG

# A thread of a CPU: sums of several threads are rounded in another order.
ONE_THREAD = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Setting:
    """What the processes of a study have in common, on this machine or on another.

    Attributes:
        cache_gb: limit of the feature cache that runs share; None for no cache.
        work_dir: paths of the configs are relative to it.
        variables: of the environment, that say where weights and data are.
    """

    cache_gb: float | None = None
    work_dir: str = field(default_factory=os.getcwd)
    variables: Mapping[str, str] = field(
        default_factory=lambda: {key: value for key, value in os.environ.items() if key.startswith('MMGFNUC_')}
    )


def run_process(folder: Path, setting: Setting, device: Mapping[str, str], stop: Callable[[], bool]) -> int:
    """Run the run of a folder, its output added to `log.txt` there; return the exit code.

    The process is killed, with those that it started, when `stop` says so, or when an exception (Ctrl-C, the
    cancellation of a task) comes out of the waiting.
    """
    command = [sys.executable, '-m', 'mmgfnuc.studies.worker', str(folder)]
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
