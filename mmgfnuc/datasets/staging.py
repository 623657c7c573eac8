"""Preparing a dataset folder whole or not at all."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.files import DiskFullError, write_text

from .canonical import read_meta

SETTINGS = '.settings.json'


@contextmanager
def staged_dataset(out: str | Path, name: str, settings: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Give a folder beside `out` to write a dataset into; it becomes `out` only if the block succeeds.

    An earlier preparation of the same dataset is replaced whole, or kept as it was if the block fails. The caller holds
    `output_lock(out)`.

    Args:
        out: Folder of the dataset.
        name: Name of the dataset, as in its meta.json.
        settings: All that decides what is written. With them a block that was interrupted (Ctrl-C, a killed process, a
            full disk) leaves its files, and a later one with equal settings finds them; else the folder is empty.

    Raises:
        UserError: `out` holds anything except an earlier preparation of `name`, or maps and splits that were added
            since and would be lost.

    """
    out = Path(out).resolve()
    refuse_foreign(out, name)
    staging = staging_folder(out)
    former = out.with_name(f'.{out.name}.former')
    if former.exists() and not out.exists():
        former.rename(out)  # a run was killed between its last two steps
    shutil.rmtree(former, ignore_errors=True)
    note, begun = staging / SETTINGS, json.dumps(settings, sort_keys=True)
    if settings is None or not note.is_file() or note.read_text(encoding='utf-8') != begun:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        write_text(note, begun)
    try:
        yield staging
    except BaseException as error:
        if settings is None or (isinstance(error, UserError) and not isinstance(error, DiskFullError)):
            shutil.rmtree(staging, ignore_errors=True)
        raise
    note.unlink()
    _refuse_loss(out, staging)
    if out.exists():
        out.rename(former)
    staging.rename(out)
    shutil.rmtree(former, ignore_errors=True)


def staging_folder(out: Path) -> Path:
    """Where the files of `out` are until they are complete."""
    return out.with_name(f'.{out.name}.partial')


def unpacked_folder(out: Path) -> Path:
    """Where an archive is unpacked that `out` is made from."""
    return out.with_name(f'.{out.name}.unpacked')


def _refuse_loss(out: Path, staging: Path) -> None:
    """Keep ignore maps and splits that somebody put there by hand."""
    there = [*sorted(out.glob('ignore/*.png')), *sorted(out.glob('splits/*.json'))]
    images = staging / 'images'
    lost = [path.relative_to(out) for path in there if not (staging / path.relative_to(out)).exists()]
    lost = [path for path in lost if path.parent.name == 'splits' or (images / path.name).exists()]
    if lost:
        shutil.rmtree(staging, ignore_errors=True)
    refuse_lost(out, lost)


def refuse_lost(out: Path, lost: Sequence[Path]) -> None:
    """Refuse to replace a dataset by one that lacks some of its files.

    Args:
        out: folder of the dataset.
        lost: what it lacks, as paths within the folder.

    Raises:
        UserError: it lacks any.
    """
    if lost:
        more = f' and {len(lost) - 1} more' if len(lost) > 1 else ''
        raise UserError(f'{out / lost[0]}{more} would be lost, as this run writes none; move it away, or delete {out}')


def refuse_foreign(out: Path, name: str) -> None:
    """Refuse a folder that holds anything except an earlier preparation of the dataset.

    Raises:
        UserError: it does.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not ((out / 'meta.json').is_file() and read_meta(out)['name'] == name):
        raise UserError(f'{out} holds something else than a prepared {name}; choose a new folder or empty this one')
