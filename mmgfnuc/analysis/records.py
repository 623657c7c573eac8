"""Measured results as JSON records: the only source of the figures in README and docs."""

import csv
import hashlib
import json
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.canonical import read_meta, sample_paths
from mmgfnuc.errors import UserError
from mmgfnuc.files import whole_file
from mmgfnuc.inference.checkpoint import read_checkpoint

from .baselines import otsu_scores

# Of the provenance that a checkpoint carries, what the runs of a record have in common.
SHARED = ('versions', 'hardware', 'commit')


def data_digest(dataset: NucleiDataset) -> str:
    """SHA-256 over ids, images and label maps of a part, in the order of ids."""
    digest = hashlib.sha256()
    for sample_id in sorted(dataset.ids):
        paths = sample_paths(dataset.data_root, sample_id)
        digest.update(sample_id.encode())
        for path in (paths.image, paths.label, paths.ignore):
            digest.update(path.read_bytes() if path else b'')
    return digest.hexdigest()


def read_run(checkpoint: Path, dataset: NucleiDataset) -> dict[str, Any]:
    """Return what one trained and tested run contributes: seed, length, provenance and scores.

    Raises:
        UserError: the scores beside the checkpoint are missing, or are those of another checkpoint or of other data.
    """
    folder = checkpoint.parent / 'test'
    if not (folder / 'tested.json').is_file():
        raise UserError(f'{folder} holds no scores; make them first: python tools/test.py CONFIG {checkpoint}')
    tested = json.loads((folder / 'tested.json').read_text())
    with checkpoint.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    if tested['sha256'] != digest:
        raise UserError(f'{folder} holds the scores of another {tested["checkpoint"]}; test {checkpoint} again')
    scores = json.loads((folder / 'metrics.json').read_text())
    with (folder / 'per_image.csv').open() as file:
        if sorted(row['id'] for row in csv.DictReader(file)) != sorted(dataset.ids):
            raise UserError(f'{folder} holds the scores of split {tested["split"]}, part {tested["part"]}; give these')
    meta = read_checkpoint(checkpoint)['meta']
    return {
        'seed': meta['seed'],
        'steps': meta['iter'],
        'train_minutes': round(meta['train_seconds'] / 60, 1),
        **{key: meta[key] for key in SHARED},
        'scores': scores,
    }


def make_record(
    folder: Path,
    name: str,
    title: str,
    commands: Sequence[str],
    checkpoints: Sequence[Path],
    dataset: NucleiDataset,
    picture: Path | None = None,
    remark: str = '',
    baseline: str | None = None,
) -> Path:
    """Write `<folder>/<name>.json` and, beside it, the per-image scores of each run.

    Args:
        folder: where records live, docs/results.
        name: file stem of the record.
        title: what was measured; says so where the budget was small or the hardware a CPU.
        commands: that made the result, in order.
        checkpoints: last checkpoint of each run, one for each seed, already tested.
        dataset: the part that was scored, without a pipeline.
        picture: an overlay of `tools/test.py --show-dir`, stored as a JPEG beside the record.
        remark: what a reader must know to judge the scores, such as earlier looks at the same images.
        baseline: name of the record that this arm of a study is compared with.

    Raises:
        UserError: a run was not tested on this part, or runs differ in steps, versions, hardware or commit.
    """
    runs = [read_run(path, dataset) for path in checkpoints]
    for key in ('steps', *SHARED):
        if any(run[key] != runs[0][key] for run in runs):
            raise UserError(f'the runs differ in {key}: {[run[key] for run in runs]}; a record holds equal runs')
    folder.mkdir(parents=True, exist_ok=True)
    for path, run in zip(checkpoints, runs, strict=True):
        run['per_image'] = f'{name}_seed{run["seed"]}.csv'
        shutil.copyfile(path.parent / 'test' / 'per_image.csv', folder / run['per_image'])
    if picture:
        Image.open(picture).convert('RGB').save(folder / f'{name}.jpg', quality=90)
    meta = read_meta(dataset.data_root)
    record = {
        'title': title,
        'commands': list(commands),
        'date': datetime.now().date().isoformat(),
        **{key: runs[0][key] for key in SHARED},
        'data': {
            'name': meta['name'],
            'licence': meta['licence'],
            'citation': meta['citation'],
            'images': len(dataset),
            'groups': sorted(dataset.groups),
            'sha256': data_digest(dataset),
        },
        'steps': runs[0]['steps'],
        'remark': remark,
        'baseline': baseline,
        'picture': f'{name}.jpg' if picture else None,
        'otsu': otsu_scores(dataset),
        'runs': [{key: value for key, value in run.items() if key not in ('steps', *SHARED)} for run in runs],
    }
    return write_record(folder / f'{name}.json', record)


def write_record(target: Path, record: dict[str, Any]) -> Path:
    """Write a record as JSON."""
    with whole_file(target) as file:
        file.write_text(json.dumps(record, indent=1) + '\n')
    return target


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return all records of a folder by name, sorted."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob('*.json'))}
