"""Measured results as JSON records: the only source of the figures in README and docs."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.canonical import read_meta, sample_paths
from mmgfnuc.errors import UserError
from mmgfnuc.files import whole_file
from mmgfnuc.inference.checkpoint import read_checkpoint

from .baselines import otsu_scores

TIME_FORMAT = '%Y%m%d_%H%M%S'


def data_digest(dataset: NucleiDataset) -> str:
    """SHA-256 over ids, images and label maps of a part, in the order of ids."""
    digest = hashlib.sha256()
    for sample_id in sorted(dataset.ids):
        paths = sample_paths(dataset.data_root, sample_id)
        digest.update(sample_id.encode())
        for path in (paths.image, paths.label, paths.ignore):
            digest.update(path.read_bytes() if path else b'')
    return digest.hexdigest()


def hardware() -> str:
    """Processor, cores and GPUs of this machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        names = [line.split(':', 1)[1].strip() for line in cpuinfo.read_text().splitlines() if 'model name' in line]
        model = names[0] if names else model
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ', '.join([f'{model}, {os.cpu_count()} cores', *gpus])


def commit() -> str:
    """Git commit of the working folder, with `+changes` where tracked files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(['git', *arguments], capture_output=True, text=True, check=False).stdout.strip()

    return (git('rev-parse', 'HEAD') or 'unknown') + ('+changes' if git('status', '--porcelain', '-uno') else '')


def read_run(checkpoint_path: Path) -> dict[str, Any]:
    """Return what one trained and tested run contributes: seed, length, versions and scores.

    Raises:
        UserError: the checkpoint was not tested; the text gives the command.
    """
    scores = checkpoint_path.parent / 'test' / 'metrics.json'
    if not scores.is_file():
        raise UserError(
            f'{scores} is not there; score the checkpoint first: python tools/test.py CONFIG {checkpoint_path}'
        )
    meta = read_checkpoint(checkpoint_path)['meta']
    # The experiment's name ends with the time of its start; a checkpoint has the time it was saved.
    start = '_'.join(meta['experiment_name'].rsplit('_', 2)[-2:])
    seconds = (datetime.strptime(meta['time'], TIME_FORMAT) - datetime.strptime(start, TIME_FORMAT)).total_seconds()
    return {
        'seed': meta['seed'],
        'steps': meta['iter'],
        'train_minutes': round(seconds / 60, 1),
        'versions': meta['versions'],
        'scores': json.loads(scores.read_text()),
    }


def make_record(
    folder: Path,
    name: str,
    title: str,
    commands: Sequence[str],
    checkpoints: Sequence[Path],
    dataset: NucleiDataset,
    trained_at: str | None = None,
    picture: Path | None = None,
) -> Path:
    """Write `<folder>/<name>.json` and, beside it, the per-image scores of each run.

    Args:
        folder: where records live, docs/results.
        name: file stem of the record.
        title: what was measured; says so where the budget was small or the hardware a CPU.
        commands: that made the result, in order.
        checkpoints: last checkpoint of each run, one for each seed, already tested.
        dataset: the part that was scored, without a pipeline.
        trained_at: commit that trained the runs; None for the current one.
        picture: an overlay of `tools/test.py --show-dir`, stored as a JPEG beside the record.

    Raises:
        UserError: a run was not tested, or runs differ in steps or versions.
    """
    runs = [read_run(path) for path in checkpoints]
    for key in ('steps', 'versions'):
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
        'commit': trained_at or commit(),
        'date': datetime.now().date().isoformat(),
        'hardware': hardware(),
        'versions': runs[0]['versions'],
        'data': {
            'name': meta['name'],
            'licence': meta['licence'],
            'citation': meta['citation'],
            'images': len(dataset),
            'groups': sorted(dataset.groups),
            'sha256': data_digest(dataset),
        },
        'steps': runs[0]['steps'],
        'picture': f'{name}.jpg' if picture else None,
        'otsu': otsu_scores(dataset),
        'runs': [{key: value for key, value in run.items() if key not in ('steps', 'versions')} for run in runs],
    }
    target = folder / f'{name}.json'
    with whole_file(target) as file:
        file.write_text(json.dumps(record, indent=1) + '\n')
    return target


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return all records of a folder by name, sorted."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob('*.json'))}
