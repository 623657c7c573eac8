"""The one way to write: whole files or none, one process at a time in an output folder."""

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgfnuc.errors import UserError

if TYPE_CHECKING:
    from filelock import FileLock

FULL = (errno.ENOSPC, errno.EDQUOT)
# Libraries hide the error number; a disk with less than this had no room for what they wrote.
NO_ROOM_BYTES = 64 * 1024
FORMULA_MARKS = ('=', '+', '-', '@', '\t', '\r')
# Ends the name of a file that is being written. Known to nobody else, so that leftovers may be deleted.
UNFINISHED = '.gfn-tmp'


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
    unfinished = path.with_name(f'.{path.name}{UNFINISHED}')
    try:
        with full_disk_told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield unfinished
            unfinished.replace(path)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Turn whatever a library raises when the disk is full into one line about the file or folder that is written.

    Raises:
        DiskFullError: the disk is full; says how much is free.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        free = _free_bytes(path)
        if not (is_disk_full(error) or free < NO_ROOM_BYTES):
            raise
        raise DiskFullError(f'{path} cannot be written: the disk has {free / 10**6:.1f} MB free; make room') from error


def is_disk_full(error: BaseException | None) -> bool:
    """Say whether an error, or one that led to it, is that of a full disk or a used-up quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _free_bytes(path: Path) -> int:
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(there).free


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8.

    Raises:
        UserError: see `whole_file`.
    """
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding='utf-8')


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write JSON whole and strictly: NaN and infinity are refused.

    Args:
        path: of the file.
        content: what JSON can hold.
        indent: None writes one line without spaces, for files that are large or many.

    Raises:
        UserError: see `whole_file`.
    """
    separators = (',', ':') if indent is None else None
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    with whole_file(path) as unfinished:
        # A byte of a path that is not UTF-8 becomes an escape, as JSON itself writes it.
        unfinished.write_text(text + '\n', encoding='utf-8', errors='backslashreplace')


def read_json(path: Path, fix: str, **keys: type | tuple[type, ...]) -> dict[str, Any]:
    """Read a JSON object that an earlier run wrote.

    Args:
        path: of the file.
        fix: what to do where it is damaged; ends the error.
        keys: that must be there, and the types of their values.

    Raises:
        UserError: it is missing, no JSON object, or lacks a key of that type.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        reason = 'it is missing' if isinstance(error, FileNotFoundError) else type(error).__name__
        raise UserError(f'{path} cannot be read ({reason}); {fix}') from error
    if not isinstance(content, dict):
        raise UserError(f'{path} holds a {type(content).__name__} where an object belongs; {fix}')
    for key, kinds in keys.items():
        if key not in content or not isinstance(content[key], kinds):
            raise UserError(f'{path} is damaged: {key} is missing or of a wrong type; {fix}')
    return content


@contextmanager
def output_lock(folder: str | Path) -> Iterator[None]:
    """Be the only process that writes to an output folder; the lock ends with the block or with the process.

    A process that holds the lock may take it again. Unfinished files that a killed process left in the folder are
    removed. Whatever fails in the block because the disk is full is told in one line.

    Raises:
        UserError: another process holds it.
        DiskFullError: the disk is full.
    """
    from filelock import Timeout

    folder = Path(folder).resolve()
    with full_disk_told(folder):
        path = lock_file(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f'another process is writing to {folder}; wait for its end or name another folder'
            ) from None
        try:
            remove_unfinished(folder)
            yield
        finally:
            lock.release()


def lock_file(folder: Path) -> Path:
    """Place of the lock of an output folder: beside it, or within it where this process may not write beside it.

    It stays when the lock is released: to delete it would let in two.
    """
    folder = folder.resolve()
    there = next(above for above in folder.parents if above.exists())
    beside = os.access(there, os.W_OK)
    return folder.parent / f'.{folder.name}.lock' if beside else folder / '.lock'


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file, waiting for whoever has it.

    It ends with the block or with the process, however that ends. The file stays: to delete it would let in two.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.resolve()):
        yield


def _lock(path: Path) -> 'FileLock':
    from filelock import FileLock

    return FileLock(path, is_singleton=True)


def remove_unfinished(folder: Path) -> None:
    """Delete the files that a killed process was writing in a folder and in those directly below it."""
    for pattern in (f'.*{UNFINISHED}', f'*/.*{UNFINISHED}'):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def read_csv(path: Path, fix: str, *columns: str) -> list[dict[str, str]]:
    """Read a table of `write_csv`, its apostrophes before formulas taken off.

    Args:
        path: of the file.
        fix: what to do where it is damaged; ends the error.
        columns: that must be there.

    Raises:
        UserError: it is missing, no such table, or a line has too few or too many cells.
    """
    try:
        with path.open(newline='', encoding='utf-8') as table:
            header, *rows = csv.reader(table, strict=True)
        lines = [dict(zip(header, map(_plain, row), strict=True)) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        reason = 'it is missing' if isinstance(error, FileNotFoundError) else 'it is damaged'
        raise UserError(f'{path} cannot be read ({reason}); {fix}') from error
    lacking = [column for column in columns if column not in header]
    if lacking:
        raise UserError(f'{path} has no column {lacking[0]}; {fix}')
    return lines


def _plain(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and _is_formula(cell) else cell


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def _is_formula(text: str) -> bool:
    # With its apostrophes, so that what is read is what was written.
    return text.lstrip("'").startswith(FORMULA_MARKS)
