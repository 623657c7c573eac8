"""Runs cells on this machine: one process for each device, each cell in a folder of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import cycle, islice
from pathlib import Path
from queue import SimpleQueue

import torch
from tqdm import tqdm

from mmgfnuc.errors import UserError
from mmgfnuc.files import whole_file

from .cells import Cell, describe

DONE, FAILED, BEGUN, OPEN = 'done', 'failed', 'begun', 'open'
LOG_LINES = 15


def cell_folder(root: Path, cell: Cell) -> Path:
    """Where a cell runs: cells of several studies that are the same share it."""
    return root / cell.key


def cell_state(root: Path, cell: Cell) -> str:
    """Say whether a cell is done, has failed, was begun and interrupted, or was never started."""
    folder = cell_folder(root, cell)
    if (folder / 'done.json').is_file():
        return DONE
    if (folder / 'failed.txt').is_file():
        return FAILED
    return BEGUN if folder.is_dir() else OPEN


def devices(processes: int | None = None) -> list[dict[str, str]]:
    """Environment of each process: one GPU, or one thread of a CPU, so that scores do not depend on how many run.

    Args:
        processes: how many; by default one for each GPU, or for each core where there is none.
    """
    gpus = torch.cuda.device_count()
    single = [{'CUDA_VISIBLE_DEVICES': str(index)} for index in range(gpus)]
    if not gpus:
        single = [{'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}] * (os.cpu_count() or 1)
    return list(islice(cycle(single), processes or len(single)))


def run_cells(cells: Sequence[Cell], root: str | Path, processes: int | None = None) -> None:
    """Run the cells that are not done; interrupted ones go on from their last checkpoint, failed ones begin again.

    A cell that fails is recorded, and the others run all the same.

    Args:
        cells: of a study.
        root: folder of the runs, `<root>/<key>/` for each cell.
        processes: see `devices`.

    Raises:
        UserError: some cells have failed; it names them and the ends of their logs.
    """
    root = Path(root)
    waiting = [cell for cell in cells if cell_state(root, cell) != DONE]
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for device in devices(processes):
        free.put(device)
    failures: list[str] = []
    bar = tqdm(total=len(cells), initial=len(cells) - len(waiting), desc='cells', unit='cell')
    running: list[subprocess.Popen] = []
    with bar, ThreadPoolExecutor(free.qsize()) as pool:
        jobs = {pool.submit(_run_on_free, cell, root, free, running): cell for cell in waiting}
        try:
            for job in as_completed(jobs):
                failure = job.result()
                failures += [f'{jobs[job].name}: {failure}'] if failure else []
                bar.update()
        except BaseException:  # Ctrl-C, or a bug: nothing is left running
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.kill()
            raise
    if failures:
        raise UserError(f'{len(failures)} of {len(cells)} cells failed; the others are done:\n' + '\n'.join(failures))


def _run_on_free(
    cell: Cell, root: Path, free: 'SimpleQueue[dict[str, str]]', running: list[subprocess.Popen]
) -> str | None:
    device = free.get()
    try:
        return _run(cell, root, device, running)
    finally:
        free.put(device)


def _run(cell: Cell, root: Path, device: dict[str, str], running: list[subprocess.Popen]) -> str | None:
    """Run a cell; return the end of its log where it fails."""
    folder = cell_folder(root, cell)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'failed.txt').unlink(missing_ok=True)
    for name, text in (('config.py', cell.config), ('cell.json', describe(cell))):
        with whole_file(folder / name) as file:
            file.write_text(text)
    log = folder / 'log.txt'
    with log.open('a') as file:
        file.write(f'== {time.strftime("%Y-%m-%d %H:%M:%S")} {cell.name}\n')
        file.flush()
        command = [sys.executable, '-m', 'mmgfnuc.benchmark.worker', str(folder)]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **device})
        running.append(process)
        code = process.wait()
    if not code:
        return None
    tail = '\n'.join(log.read_text().splitlines()[-LOG_LINES:])
    with whole_file(folder / 'failed.txt') as file:
        file.write_text(tail + '\n')
    return f'exit code {code}, log {log}'
