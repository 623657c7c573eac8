import sys

import pytest
import torch


@pytest.fixture
def run_here(monkeypatch):
    """Runs a script of benchmarks/ in this process and gives its exit code."""
    threads = torch.get_num_threads()

    def run(script, *arguments):
        monkeypatch.setattr(sys, 'argv', [script.__file__, *arguments])
        return script.run_cli(script.main)

    yield run
    torch.set_num_threads(threads)
