"""The Makefile: paths that would be taken for several, or run by the shell, are refused before anything is done."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path):
    shutil.copy(ROOT / 'Makefile', tmp_path / 'Makefile')
    for name in ('a', 'b'):
        (tmp_path / name).write_text('mine')
    return tmp_path


@pytest.mark.skipif(shutil.which('make') is None, reason='needs make')
@pytest.mark.parametrize('path', ['a b', 'a b/.venv', 'a ', '', 'x;touch y', '`touch y`', '$$(touch y)', "x'y", 'x\\y'])
@pytest.mark.parametrize('target', ['setup', 'lint', 'clean'])
def test_a_path_that_is_not_one_word_is_refused(clone, target, path):
    # Under `make test` these two would make it a make within a make, which prints the folders that it enters.
    environment = {name: value for name, value in os.environ.items() if name not in ('MAKEFLAGS', 'MAKELEVEL')}
    done = subprocess.run(['make', target, f'VENV={path}'], cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert 'give one path without blanks' in done.stderr
    assert done.stdout == ''
    assert sorted(entry.name for entry in clone.iterdir()) == ['Makefile', 'a', 'b']
