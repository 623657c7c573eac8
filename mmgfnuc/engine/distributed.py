"""Distributed set-up on hosts with and without GPUs, and the way out of it."""

import atexit
import os
import sys
import time
from threading import Thread
from typing import TYPE_CHECKING, NoReturn

from mmgfnuc.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

# What the program that starts the processes sets in each of them.
LAUNCH_VARIABLES = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID'}
LAUNCHERS = ('none', *LAUNCH_VARIABLES)
# Set by tools/dist_run.py: the process that starts the others.
LAUNCHER_PID = 'MMGFNUC_LAUNCHER_PID'
WATCH_SECONDS = 1.0


def is_first_process() -> bool:
    """Say whether this is the first of several processes, which may not be connected yet, or the only one."""
    return not int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0)))


def prepare_distributed(cfg: 'Config') -> None:
    """Make a config ready for several processes, as started by torchrun (`pytorch`) or by srun (`slurm`).

    MMEngine's own launchers select a CUDA device; on a host without one the gloo group is made first, and the model
    wrapper is told to use no device. Every parameter gets a gradient here, so `find_unused_parameters` stays off.

    Raises:
        UserError: this process was not started by the launcher that the config names, or cannot find the others.
    """
    variable = LAUNCH_VARIABLES[cfg.launcher]
    if variable not in os.environ:
        raise UserError(
            f"launcher '{cfg.launcher}': {variable} is not set in this process; "
            'start it by tools/dist_train.sh, dist_test.sh or slurm_train.sh, or leave --launcher out'
        )
    if LAUNCHER_PID in os.environ:
        _end_with(int(os.environ[LAUNCHER_PID]))
    import torch

    cpu_only = not torch.cuda.is_available()
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False)
    if cpu_only:
        wrapper['device_ids'] = None
        if cfg.launcher == 'slurm':
            _slurm_environment()
        torch.distributed.init_process_group('gloo')
    cfg.setdefault('model_wrapper_cfg', wrapper)


def _end_with(launcher: int) -> None:
    """Let this process end when the one that has started it is killed: nobody would end it."""

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def leave(code: int) -> NoReturn:
    """End this process with an exit code.

    One of several processes skips the interpreter's own finalization. Threads of gloo and of autograd that still hold
    tensors race with it, and PyTorch then now and then aborts a process whose work is done.

    Source: github.com/pytorch/pytorch issue 190489, open with torch 2.12.
    """
    if 'torch' not in sys.modules or not sys.modules['torch'].distributed.is_initialized():
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _slurm_environment() -> None:
    """Set what torch.distributed reads, from what srun sets."""
    os.environ.setdefault('RANK', os.environ['SLURM_PROCID'])
    os.environ.setdefault('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0'))
    os.environ.setdefault('WORLD_SIZE', os.environ['SLURM_NTASKS'])
    if int(os.environ.get('SLURM_NNODES', 1)) > 1 and 'MASTER_ADDR' not in os.environ:
        raise UserError(
            'CPU processes on several nodes: MASTER_ADDR is not set; export the host name of the first node'
        )
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
