"""The folder of a run: where it is, what is in it, and who may write there."""

import fcntl
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.files import read_csv, read_json, waiting_lock, write_json, write_text

from .identity import INSIDE, code_digest
from .runs import Run, describe

DONE, SCORED, DIVERGED, FAILED, BEGUN, OPEN = 'done', 'scored', 'diverged', 'failed', 'begun', 'open'
# States that are results: another call would give the same.
ENDED = (DONE, DIVERGED)
# Costs and circumstances of a run that is trained and scored.
RECORD = 'run.json'
# What a run is.
IDENTITY = 'identity.json'
PROGRESS, FAILURE, DIVERGENCE, LOG, LOCK = 'progress.json', 'failed.txt', 'diverged.txt', 'log.txt', 'lock'

KEYS = ('data', 'arm', 'fold', 'seed', 'image', 'group')
# Column of the tables that `mmgfnuc test` writes -> what it is called in a report.
SCORES = {
    'dice': 'foreground Dice',
    'iou': 'foreground IoU',
    'miou': 'macro mIoU',
    'weighted_f1': "support-weighted F1 (as in the paper's release)",
    'weighted_iou': "support-weighted IoU (as in the paper's release)",
    'aji': 'AJI',
    'aji_plus': 'AJI+',
    'dq': 'DQ',
    'sq': 'SQ',
    'pq': 'PQ',
    'f1_50': 'F1 at IoU 0.5',
    'detection_f1': 'detection F1',
    'boundary_f1': 'boundary F1',
}
# Those that arms are compared by, and what sentences call them.
COMPARED = {'dice': 'Dice', 'aji': 'AJI', 'pq': 'PQ'}


def run_folder(root: Path, run: Run) -> Path:
    """Where a run works: runs of several studies that are the same share the folder."""
    return root / run.key


def inside_file(folder: Path) -> Path:
    """Where the code of today writes what it sees inside the model of a run; that of earlier code does not count."""
    return folder / f'inside-{code_digest(*INSIDE)[:8]}.json'


def run_state(root: Path, run: Run) -> str:
    """Say how far a run is.

    It is done, scored (only what is seen inside its model is missing, or is that of earlier code), has diverged or
    failed, was begun and interrupted (or runs), or was never started.
    """
    folder = run_folder(root, run)
    if is_done(folder):
        return DONE
    for name, state in ((DIVERGENCE, DIVERGED), (FAILURE, FAILED), (RECORD, SCORED), (LOG, BEGUN)):
        if (folder / name).is_file():
            return state
    return OPEN


def is_done(folder: Path) -> bool:
    """Say whether the run of a folder is trained and scored, and its model looked into."""
    return (folder / RECORD).is_file() and inside_file(folder).is_file()


def prepare_folder(folder: Path, run: Run) -> None:
    """Write what the process of a run reads, and forget that an earlier one has failed."""
    from mmengine.config import Config

    text = Config(dict(run.config)).pretty_text
    with waiting_lock(folder.parent / LOCK):
        (folder / FAILURE).unlink(missing_ok=True)
        write_text(folder / 'config.py', text)
        write_json(folder / IDENTITY, describe(run))


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


def read_inside(folder: Path) -> dict[str, Any]:
    """Read what was seen inside the model of a run.

    Raises:
        UserError: the file is damaged.
    """
    return read_json(inside_file(folder), again(folder), calibration=dict, gates=list)


def read_report(folder: Path) -> dict[str, Any]:
    """Read the last report of the processes of a run; before the first they are starting.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / PROGRESS
    if not path.is_file():
        return {'phase': 'starting', 'step': 0, 'peak_mb': 0}
    return read_json(path, f'delete {path}, it is written anew', phase=str, step=int, peak_mb=int)


def study_scores(runs: Sequence[Run], root: str | Path) -> list[dict[str, Any]]:
    """Return a row for each image of each run that is done: KEYS, then SCORES (None where an image has none).

    Raises:
        UserError: the scores of a run are damaged, or not those of its last checkpoint.
    """
    root = Path(root)
    return [
        {'data': run.data, 'arm': run.arm.name, 'fold': run.split, 'seed': run.seed, **image}
        for run in runs
        if run_state(root, run) == DONE
        for image in _images(run_folder(root, run), run)
    ]


def _images(folder: Path, run: Run) -> list[dict[str, Any]]:
    checkpoint = folder / f'iter_{run.steps}.pth'
    if checkpoint.is_file():  # who is short of space may delete it when the run is done
        from mmgfnuc.engine.tested import read_tested  # it imports PyTorch, which a look at the states does not need

        read_tested(folder / 'test', checkpoint)
    pixels, nuclei = (_rows(folder, name) for name in ('per_image.csv', 'instances.csv'))
    if set(pixels) != set(nuclei):
        raise UserError(f'{folder}/test: its two tables are of other images; {again(folder)}')
    return [
        {'image': name, 'group': pixels[name]['group'], **{score: _number(row, score) for score in SCORES}}
        for name in sorted(pixels)
        for row in [pixels[name] | nuclei[name]]
    ]


def _rows(folder: Path, name: str) -> dict[str, dict[str, str]]:
    return {row['id']: row for row in read_csv(folder / 'test' / name, again(folder), 'id', 'group')}


def _number(row: dict[str, str], score: str) -> float | None:
    return float(row[score]) if row.get(score) else None


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
