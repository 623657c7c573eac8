"""Preparing a dataset folder whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmgfnuc.errors import UserError

from .canonical import read_meta


@contextmanager
def staged_dataset(out: str | Path, name: str) -> Iterator[Path]:
    """Give an empty folder beside `out` to write a dataset into; it becomes `out` only if the block succeeds.

    An earlier preparation of the same dataset is replaced whole, or kept as it was if the block fails.

    Args:
        out: Folder of the dataset.
        name: Name of the dataset, as in its meta.json.

    Raises:
        UserError: `out` holds anything but an earlier preparation of `name`.

    """
    out = Path(out).resolve()
    _refuse_foreign(out, name)
    staging = out.with_name(f'.{out.name}.partial')
    former = out.with_name(f'.{out.name}.former')
    if former.exists() and not out.exists():
        former.rename(out)  # a run was killed between its last two steps
    for leftover in (staging, former):
        shutil.rmtree(leftover, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    if out.exists():
        out.rename(former)
    staging.rename(out)
    shutil.rmtree(former, ignore_errors=True)


def _refuse_foreign(out: Path, name: str) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not ((out / 'meta.json').is_file() and read_meta(out)['name'] == name):
        raise UserError(f'{out} holds something else than a prepared {name}; choose a new folder or empty this one')
