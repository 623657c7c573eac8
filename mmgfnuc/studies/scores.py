"""Per-image scores of all runs of a study in one table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmgfnuc.engine.tested import read_tested
from mmgfnuc.errors import UserError
from mmgfnuc.files import read_csv

from .folders import DONE, again, last_step, run_folder, run_state
from .runs import Run

KEYS = ('arm', 'fold', 'seed', 'image', 'group')
# Column of the tables that tools/test.py writes -> what it is called in a report.
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


def study_scores(runs: Sequence[Run], root: str | Path) -> list[dict[str, Any]]:
    """Return a row for each image of each run that is done: KEYS, then SCORES (None where an image has none).

    Raises:
        UserError: the scores of a run are damaged, or not those of its last checkpoint.
    """
    root = Path(root)
    return [
        {'arm': run.arm.name, 'fold': run.split, 'seed': run.seed, **image}
        for run in runs
        if run_state(root, run) == DONE
        for image in _images(run_folder(root, run), run)
    ]


def _images(folder: Path, run: Run) -> list[dict[str, Any]]:
    checkpoint = folder / f'iter_{last_step(run)}.pth'
    if checkpoint.is_file():  # who is short of space may delete it when the run is done
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
