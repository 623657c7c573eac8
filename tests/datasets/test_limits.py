"""Memory that a process may still take, and what follows from it."""

import os

import pytest

from mmgfnuc.datasets import limits
from mmgfnuc.errors import UserError


def test_the_free_memory_is_that_of_the_machine_at_most():
    free = limits.free_memory()
    assert free is None or 0 <= free <= os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def files(table):
    """`_lines` of a machine that has these files alone."""
    return lambda path: table.get(str(path), '').splitlines()


MACHINE = {'/proc/meminfo': 'MemTotal: 100 kB\nMemAvailable:    8000000 kB\n'}


@pytest.mark.parametrize(
    ('others', 'free'),
    [
        ({}, 8_192_000_000),
        # Version 2, in a group within another that leaves less; what is cached can be had.
        (
            {
                '/proc/self/cgroup': '0::/batch/job\n',
                '/sys/fs/cgroup/batch/job/memory.max': 'max\n',
                '/sys/fs/cgroup/batch/job/memory.current': '100\n',
                '/sys/fs/cgroup/batch/memory.max': '5000\n',
                '/sys/fs/cgroup/batch/memory.current': '4000\n',
                '/sys/fs/cgroup/batch/memory.stat': 'anon 1000\ninactive_file 300\n',
            },
            1300,
        ),
        # Version 1, in a container that does not see its own name.
        (
            {
                '/proc/self/cgroup': '5:cpu:/docker/x\n4:memory:/docker/x\n',
                '/sys/fs/cgroup/memory/memory.limit_in_bytes': '5000\n',
                '/sys/fs/cgroup/memory/memory.usage_in_bytes': '6000\n',
            },
            0,
        ),
        # ulimit -v
        (
            {
                '/proc/self/limits': 'Max address space         1000000000           unlimited            bytes\n',
                '/proc/self/statm': '1000 500 1 1 0 1 0\n',
            },
            1_000_000_000 - 1000 * os.sysconf('SC_PAGE_SIZE'),
        ),
        (
            {'/proc/self/limits': 'Max address space         unlimited            unlimited            bytes\n'},
            8_192_000_000,
        ),
    ],
)
def test_the_least_counts(monkeypatch, others, free):
    monkeypatch.setattr(limits, '_lines', files(MACHINE | others))
    assert limits.free_memory() == free


def test_a_system_that_does_not_say_it(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, '_lines', files({}))
    assert limits.free_memory() is None
    limits.require_room(tmp_path / 'a.png', 20_000, 20_000, 12)


@pytest.mark.parametrize('text', ['', 'many', '0', '-5', 'nan'])
def test_a_limit_that_is_none(monkeypatch, text):
    monkeypatch.setenv(limits.LIMIT_ENV, text)
    with pytest.raises(UserError, match=rf"{limits.LIMIT_ENV}='{text}'"):
        limits.largest_megapixels()
