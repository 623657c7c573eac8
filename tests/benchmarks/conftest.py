import json
import sys

import cv2
import pytest
import torch
from records import read_records


@pytest.fixture
def run_here(monkeypatch):
    """Runs a script of benchmarks/ in this process and gives its exit code."""
    threads = torch.get_num_threads(), cv2.getNumThreads()

    def run(script, *arguments):
        monkeypatch.setattr(sys, 'argv', [script.__file__, *arguments])
        return script.run_cli(script.main)

    yield run
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.fixture
def measured(run_here, tmp_path, capsys):
    """Runs a script and gives what it prints as its one line, after a look at its record and the section made of it."""

    def run(script, section, *arguments):
        assert run_here(script, *arguments, '--out', str(tmp_path / 'record.json')) == 0
        (line,) = capsys.readouterr().out.splitlines()
        printed = json.loads(line)
        record = read_records(tmp_path)['record']
        assert record['rows'] == (printed if isinstance(printed, list) else [printed])
        assert record['commands'][0].startswith(f'python benchmarks/{script.__name__}.py ')
        assert record['commands'][0] in section([record])
        return printed

    return run
