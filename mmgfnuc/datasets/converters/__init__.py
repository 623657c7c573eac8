"""Converters from the layouts in which authors ship their datasets to the canonical form."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmgfnuc.errors import UserError


@contextmanager
def staged_dataset(out: str | Path) -> Iterator[Path]:
    """Give an empty folder beside `out` to write a dataset into; it becomes `out` only if the block succeeds.

    A dataset that stood at `out` is replaced whole, and kept as it was if the block fails.

    Raises:
        UserError: `out` is a file, or a folder that holds something else than a dataset.
    """
    out = Path(out).absolute()
    _refuse_foreign(out)
    staging = out.with_name(f'.{out.name}.partial')
    former = out.with_name(f'.{out.name}.former')
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


def _refuse_foreign(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f'{out} is a file; give a folder that is new or holds an earlier dataset')
    is_dataset = (out / 'meta.json').is_file() and (out / 'images').is_dir() and (out / 'labels').is_dir()
    if not is_dataset and any(out.iterdir()):
        raise UserError(f'{out} holds files that are no prepared dataset; give a new folder, they are not overwritten')
