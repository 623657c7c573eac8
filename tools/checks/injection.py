"""Runs a function in a forked process that is killed, or whose disk fills up, at the n-th of its file operations.

Counted is what changes the files below one folder: files opened for writing, folders made, renames, deletions. A
process is forked for each try after the imports, so that a try costs little more than what it does.
"""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {'os.mkdir', 'os.rename', 'os.remove', 'os.rmdir', 'os.link', 'os.symlink', 'os.truncate'}
KILLED = 137
OPENED = b'o'


@dataclass(frozen=True)
class End:
    """What became of a try: its exit code, what it printed, and of each operation whether it opened a file."""

    code: int
    output: str
    operations: tuple[bool, ...]


def whole_run(run: Callable[[], Any], folder: Path, output: Path) -> End:
    """Let a function run to its end, and count its operations below a folder."""
    return _forked(run, folder, output, lambda count, event, path: None)


def killed_run(run: Callable[[], Any], folder: Path, output: Path, at: int, opened: bool) -> End:
    """Kill the process before the operation `at`; where that opens a file, with `opened`, right after it."""

    def react(count: int, event: str, path: Path) -> None:
        if count != at:
            return
        if opened and event == 'open':
            path.open('wb').close()
        os._exit(KILLED)

    return _forked(run, folder, output, react)


def full_disk_run(run: Callable[[], Any], folder: Path, output: Path, at: int) -> End:
    """Let every operation from `at` on that needs room fail as on a full disk."""

    def react(count: int, event: str, path: Path) -> None:
        if count >= at and event in ('open', 'os.mkdir'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    return _forked(run, folder, output, react)


def _forked(run: Callable[[], Any], folder: Path, output: Path, react: Callable[[int, str, Path], None]) -> End:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _in_child(run, folder, output, react)
    _, status = os.waitpid(child, 0)
    counter = output.with_suffix('.count')
    operations = tuple(mark == OPENED[0] for mark in counter.read_bytes())
    return End(os.waitstatus_to_exitcode(status), output.read_text(encoding='utf-8', errors='replace'), operations)


def _in_child(run: Callable[[], Any], folder: Path, output: Path, react: Callable[[int, str, Path], None]) -> None:
    code = 1
    try:
        with output.open('wb') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(number, 'w', encoding='utf-8', closefd=False) for number in (1, 2))
        # A byte for each operation: it stays there however the process ends.
        counter = os.open(output.with_suffix('.count'), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        _count_operations(folder.resolve(), counter, react)
        code = run() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _count_operations(folder: Path, counter: int, react: Callable[[int, str, Path], None]) -> None:
    count, busy = 0, False

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count, busy
        if busy or not (event in CHANGES or (event == 'open' and _is_writing(arguments))):
            return
        path = _path_of(event, arguments)
        if path is None or not path.is_relative_to(folder):
            return
        count += 1
        busy = True
        try:
            os.write(counter, OPENED if event == 'open' else b'.')
            react(count, event, path)
        finally:
            busy = False

    sys.addaudithook(watch)


def _is_writing(arguments: tuple[Any, ...]) -> bool:
    path, _, flags = arguments
    return not isinstance(path, int) and isinstance(flags, int) and bool(flags & WRITING)


def _path_of(event: str, arguments: tuple[Any, ...]) -> Path | None:
    name = arguments[0]
    if isinstance(name, int):
        return None
    path = Path(os.fsdecode(name))
    # What deletes a tree names files by the folder that it holds open.
    folder = arguments[-1] if event in ('os.remove', 'os.rmdir', 'os.mkdir') else -1
    if not path.is_absolute():
        base = f'/proc/self/fd/{folder}' if isinstance(folder, int) and folder >= 0 else os.curdir
        path = Path(os.path.realpath(base)) / path
    return path
