"""The largest image that is read: a limit against bombs, and the free memory, both known before decoding."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

from mmgfnuc.errors import UserError

from .bad_file import BadFileError

LIMIT_ENV = 'MMGFNUC_MAX_MEGAPIXELS'
MEGAPIXELS = 500
# Less than this is not worth a look at the memory, which takes longer than to decode a small image.
SMALL = 100 * 10**6
CGROUPS = Path('/sys/fs/cgroup')


def require_room(path: Path, height: int, width: int, bytes_per_pixel: float, purpose: str = 'to be read') -> None:
    """Refuse an image that is above the limit, or too large for the free memory, from its header alone.

    Args:
        path: of the image.
        height: in pixels.
        width: in pixels.
        bytes_per_pixel: that decoding takes, including the result.
        purpose: what the memory is for.

    Raises:
        BadFileError: Says the limit or the memory that is needed.
    """
    megapixels, most = height * width / 10**6, largest_megapixels()
    size = f'{height:,} x {width:,} pixels'
    if megapixels > most:
        what = f'{size} are {megapixels:,.0f} megapixels, above the limit of {most:g}'
        raise BadFileError(path, what, f'cut it into tiles, or raise the limit: {LIMIT_ENV}={megapixels + 1:.0f}')
    needed = int(height * width * bytes_per_pixel)
    if needed < SMALL:
        return
    free = free_memory()
    if free is not None and needed > free:
        what = f'{size} need {needed / 10**9:.2g} GB of memory {purpose}, {free / 10**9:.2g} GB are free'
        raise BadFileError(path, what, 'close other programs, or cut the image into tiles')


class SharedMemory:
    """Free memory that threads share: each waits until there is room beside what the others have taken."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._taken = 0

    @contextmanager
    def take(self, needed: int) -> Iterator[None]:
        """Hold so many bytes within the block. One alone is not kept waiting: `require_room` refuses what is too much.

        Args:
            needed: bytes; those of a small image are not counted.
        """
        counted = needed if needed >= SMALL else 0
        with self._changed:
            self._changed.wait_for(lambda: not counted or not self._taken or self._fits(counted))
            self._taken += counted
        try:
            yield
        finally:
            with self._changed:
                self._taken -= counted
                self._changed.notify_all()

    def _fits(self, needed: int) -> bool:
        """Tell whether it fits, even if what the others have taken is not in use yet."""
        free = free_memory()
        return free is None or needed + self._taken <= free


def largest_megapixels() -> float:
    """Limit of an image: 500 megapixels, or what the environment says.

    Raises:
        UserError: It is not a number above 0.
    """
    text = os.environ.get(LIMIT_ENV, str(MEGAPIXELS))
    try:
        most = float(text)
    except ValueError:
        most = 0.0
    if not most > 0:
        raise UserError(f'{LIMIT_ENV}={text!r} is not a number of megapixels above 0; give one such as 1000')
    return most


def free_memory() -> int | None:
    """Bytes that this process may still take, by the machine, its control group and its own limit.

    None where the system does not state it (Linux does).
    """
    return min((max(free, 0) for free in (*_of_machine(), *_of_groups(), *_of_process())), default=None)


def _of_machine() -> Iterator[int]:
    for line in _lines('/proc/meminfo'):
        if line.startswith('MemAvailable:'):
            yield int(line.split()[1]) * 1024


def _of_groups() -> Iterator[int]:
    """Free bytes of the control groups around this process, version 2 and 1: containers and batch systems set them."""
    for line in _lines('/proc/self/cgroup'):
        _, controllers, name = line.split(':', maxsplit=2)
        if controllers not in ('', 'memory'):
            continue
        top, names = (CGROUPS, ('memory.max', 'memory.current', 'inactive_file'))
        if controllers:
            top, names = CGROUPS / 'memory', ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file')
        folder = top / name.lstrip('/')
        # Within a container the name may be one of outside: then only the top is there.
        for group in [folder, *folder.parents]:
            yield from _of_group(group, *names)
            if group == top:
                break


def _of_group(group: Path, most: str, used: str, cache: str) -> Iterator[int]:
    sizes = [[line for line in _lines(group / name) if line.isdigit()] for name in (most, used)]
    if all(sizes):
        # What is cached of files that are not in use is given up as soon as memory is asked for.
        cached = [int(line.split()[1]) for line in _lines(group / 'memory.stat') if line.split()[0] == cache]
        yield int(sizes[0][0]) - int(sizes[1][0]) + sum(cached)


def _of_process() -> Iterator[int]:
    for line in _lines('/proc/self/limits'):
        fields = line.removeprefix('Max address space').split()
        if line.startswith('Max address space') and fields[0].isdigit():
            pages = int(_lines('/proc/self/statm')[0].split()[0])
            yield int(fields[0]) - pages * os.sysconf('SC_PAGE_SIZE')


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding='utf-8').splitlines()
    except OSError:
        return []
