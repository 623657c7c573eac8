"""The folder of a run: where it is, what is in it, and who may write there."""

import fcntl
import re
from pathlib import Path
from types import NoneType
from typing import Any

from mmengine.config import Config

from mmgfnuc.files import read_json, waiting_lock, write_text
from mmgfnuc.inference.dumped_config import check_outputs, check_registered, forget_caches, read_dumped

from .runs import Run, describe

DONE, DIVERGED, FAILED, BEGUN, OPEN = 'done', 'diverged', 'failed', 'begun', 'open'
# States that are results: another call would give the same.
ENDED = (DONE, DIVERGED)
# Costs and circumstances of a run that is trained and scored; what was found in its model, written last.
RECORD, INSIDE = 'run.json', 'inside.json'
FAILURE, DIVERGENCE, LOG, LOCK = 'failed.txt', 'diverged.txt', 'log.txt', 'lock'


def run_folder(root: Path, run: Run) -> Path:
    """Where a run runs: runs of several studies that are the same share it."""
    return root / run.key


def run_state(root: Path, run: Run) -> str:
    """Say whether a run is done, has diverged or failed, was begun and interrupted (or runs), or was never started."""
    folder = run_folder(root, run)
    if is_done(folder):
        return DONE
    if (folder / DIVERGENCE).is_file():
        return DIVERGED
    if (folder / FAILURE).is_file():
        return FAILED
    return BEGUN if (folder / LOG).is_file() else OPEN


def is_done(folder: Path) -> bool:
    """Say whether the run of a folder is trained, scored and measured."""
    return all((folder / name).is_file() for name in (RECORD, INSIDE))


def last_step(run: Run) -> int:
    """Read the steps of a run in the text of its config; to parse it would take longer than a refresh of the bar."""
    found = re.search(r'max_iters=(\d+)', run.config)
    return int(found[1]) if found else 0


def prepare_folder(folder: Path, run: Run) -> None:
    """Write what the process of a run reads, and forget that an earlier one has failed."""
    with waiting_lock(folder.parent / LOCK):
        (folder / FAILURE).unlink(missing_ok=True)
        for name, text in (('config.py', run.config), ('run.json', describe(run))):
            write_text(folder / name, text)


def read_config(folder: Path) -> Config:
    """Read the config of a run as data, and let it work in its folder.

    Raises:
        UserError: it holds code, names what is no registered part, or where to write.
    """
    path = folder / 'config.py'
    config = read_dumped(path.read_text(encoding='utf-8'), str(path))
    check_registered(config, str(path))
    forget_caches(config.get('model'))
    check_outputs(config, str(path))
    config.work_dir = str(folder)
    return config


def record_failure(folder: Path, text: str) -> None:
    """Mark the run of a folder as failed."""
    with waiting_lock(folder.parent / LOCK):
        write_text(folder / FAILURE, text + '\n')


def record_divergence(folder: Path, text: str) -> None:
    """Mark the run of a folder as one whose training diverged; its process does, which holds the lock."""
    write_text(folder / DIVERGENCE, text + '\n')


def divergence(root: Path, run: Run) -> str:
    """Read how a run diverged."""
    return (run_folder(root, run) / DIVERGENCE).read_text(encoding='utf-8').strip()


def weights_of(folder: Path) -> str | None:
    """Read the SHA-256 of the weight file that the encoder of a trained run had; None without one."""
    return read_json(folder / RECORD, again(folder), weights_sha256=(str, NoneType))['weights_sha256']


def read_record(folder: Path) -> dict[str, Any]:
    """Read what is known of the training and the scoring of a run.

    Raises:
        UserError: the file is damaged.
    """
    number, text = (int, float), (str, NoneType)
    return read_json(
        folder / RECORD,
        again(folder),
        train_seconds=number,
        test_seconds=number,
        peak_mb=number,
        cached=bool,
        versions=dict,
        hardware=str,
        commit=text,
        weights_sha256=text,
    )


def again(folder: Path) -> str:
    """Say what to do about a damaged file in the folder of a run."""
    return f'delete the folder {folder}, and the same command runs this part of the study again'


def is_locked(path: Path) -> bool:
    """Say whether another holds the lock of a file, without taking it, so that a look disturbs nobody.

    filelock takes it alone, and writes; shared, two that look do not see each other, and the folder may be read-only.
    """
    if not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
