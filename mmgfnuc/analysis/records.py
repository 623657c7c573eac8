"""Measured results as JSON records: the only source of the figures in README and docs."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any

from PIL import Image

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.canonical import read_meta, sample_paths
from mmgfnuc.engine.tested import read_tested
from mmgfnuc.errors import UserError
from mmgfnuc.files import read_csv, read_json, whole_file, write_text
from mmgfnuc.inference.checkpoint import read_checkpoint

from .baselines import otsu_scores

# A record stays in its folder, is not hidden, and its name needs no escaping in a table or a link.
PLAIN_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._+-]*')
# Of the provenance that a checkpoint carries, what the runs of a record have in common.
SHARED = ('versions', 'hardware', 'commit')
# What tools/test.py writes. Key of a run -> summary, table of images, end of the name of the table's copy.
REPORTS = {
    'scores': ('metrics.json', 'per_image.csv', ''),
    'instances': ('instances.json', 'instances.csv', '_instances'),
}

# What such a summary has at least; none where no image could be scored.
SCORED = {'scores': {'dice': (float, NoneType)}, 'instances': {'aji': (float, NoneType)}}


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

    Scores are those of pixels, under `scores`, and where they were made those of nuclei, under `instances`.

    Raises:
        UserError: the scores beside the checkpoint are missing, or are those of another checkpoint or of other data.
    """
    folder = checkpoint.parent / 'test'
    tested = read_tested(folder, checkpoint)
    again = f'test {checkpoint} again'
    made = {key: names for key, names in REPORTS.items() if names[0] in tested['reports']}
    if 'scores' not in made:
        raise UserError(f'{folder} holds no metrics.json of this checkpoint; test it with NucleiSemanticMetric too')
    tables = [read_csv(folder / table, again, 'id') for _, table, _ in made.values()]
    if any(sorted(row['id'] for row in table) != sorted(dataset.ids) for table in tables):
        of = f'split {tested.get("split")}, part {tested.get("part")}'
        raise UserError(f'{folder} holds the scores of {of}; give these')
    meta = read_checkpoint(checkpoint)['meta']
    return {
        'seed': meta['seed'],
        'steps': meta['iter'],
        'train_minutes': round(meta['train_seconds'] / 60, 1),
        **{key: meta[key] for key in SHARED},
        **{key: read_json(folder / summary, again, **SCORED[key]) for key, (summary, _, _) in made.items()},
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
    """Write `<folder>/<name>.json` and, beside it, the per-image scores of each run, of pixels and of nuclei.

    Args:
        folder: where records live, docs/results.
        name: file stem of the record.
        title: what was measured; says so where the budget was small or the hardware a CPU.
        commands: that made the result, in order.
        checkpoints: last checkpoint of each run, one for each seed, already tested.
        dataset: the part that was scored, without a pipeline.
        picture: one of `tools/test.py --show-dir`, the errors of an image; stored as a JPEG beside the record.
        remark: what a reader must know to judge the scores, such as earlier looks at the same images.
        baseline: name of the record that this arm of a study is compared with.

    Raises:
        UserError: the name is no plain file name; a run was not tested on this part; runs differ in steps, versions,
            hardware or commit; some have instance scores and some have not.
    """
    if not PLAIN_NAME.fullmatch(name):
        raise UserError(f"name '{name}' is no plain file name; use letters, digits, '.', '_', '+' and '-'")
    runs = [read_run(path, dataset) for path in checkpoints]
    for key in ('steps', *SHARED):
        if any(run[key] != runs[0][key] for run in runs):
            raise UserError(f'the runs differ in {key}: {[run[key] for run in runs]}; a record holds equal runs')
    lacking = [str(path) for path, run in zip(checkpoints, runs, strict=True) if 'instances' not in run]
    if 0 < len(lacking) < len(runs):
        raise UserError(f'no instance scores beside {", ".join(lacking)}, but beside other runs; test all alike')
    folder.mkdir(parents=True, exist_ok=True)
    for path, run in zip(checkpoints, runs, strict=True):
        _copy_tables(path.parent / 'test', folder, name, run)
    if picture:
        with whole_file(folder / f'{name}.jpg') as file:
            Image.open(picture).convert('RGB').save(file, format='JPEG', quality=90)
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
        'caption': 'errors' if picture else None,
        'otsu': otsu_scores(dataset),
        'runs': [{key: value for key, value in run.items() if key not in ('steps', *SHARED)} for run in runs],
    }
    return write_record(folder / f'{name}.json', record)


def _copy_tables(source: Path, folder: Path, name: str, run: dict[str, Any]) -> None:
    """Copy the tables of images that a run has, and name the copies in it."""
    for key in [key for key in REPORTS if key in run]:
        _, table, end = REPORTS[key]
        run[f'per_image{end}'] = f'{name}_seed{run["seed"]}{end}.csv'
        with whole_file(folder / run[f'per_image{end}']) as file:
            shutil.copyfile(source / table, file)


def write_record(target: Path, record: dict[str, Any]) -> Path:
    """Write a record as JSON."""
    write_text(target, json.dumps(record, indent=1) + '\n')
    return target


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return all records of a folder by name, sorted."""
    fix = 'get the file of the repository again, or delete it'
    return {path.stem: read_json(path, fix) for path in sorted(folder.glob('*.json'))}
