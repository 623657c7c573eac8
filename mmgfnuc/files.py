"""The one way to write: whole files or none, one process at a time in an output folder."""

import csv
import errno
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mmgfnuc.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
FORMULA_MARKS = ('=', '+', '-', '@', '\t', '\r')


class DiskFullError(UserError):
    """A file could not be written for lack of space; what was there before is still there."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a hidden neighbour to write to; when the block ends without an error it takes the place of `path`.

    Readers see the old file or the new one, never a part. Missing folders are made.

    Raises:
        UserError: `path` is a folder, a device, a named pipe or a link, which a file must not replace.
        DiskFullError: the disk is full; says how much is free.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f'{path} is a folder, a link or a device, which is not written over; name another file')
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}.tmp')
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(path.parent).free / 10**6
        raise DiskFullError(f'{path} cannot be written: the disk has {free:.1f} MB free; make room') from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8.

    Raises:
        UserError: see `whole_file`.
    """
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding='utf-8')


@contextmanager
def output_lock(folder: str | Path) -> Iterator[None]:
    """Be the only process that writes to an output folder; the lock ends with the block or with the process.

    The lock file lies beside the folder, `.<name>.lock`, and stays: to delete it would let in two.

    Raises:
        UserError: another process holds it.
    """
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f'.{folder.name}.lock'))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f'another process is writing to {folder}; wait for its end or name another folder') from None
    try:
        yield
    finally:
        lock.release()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table whole, as UTF-8.

    Text that a spreadsheet would take for a formula (it begins with = + - @, a tab or a return) gets an apostrophe in
    front; numbers stay as they are.

    Raises:
        UserError: see `whole_file`.
    """
    with whole_file(path) as unfinished, unfinished.open('w', newline='', encoding='utf-8') as table:
        writer = csv.writer(table, lineterminator='\n')
        writer.writerow([_no_formula(name) for name in header])
        writer.writerows([_no_formula(value) for value in row] for row in rows)


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_MARKS) else value
