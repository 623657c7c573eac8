import os
import subprocess
import sys
from contextlib import contextmanager

import cv2
import pytest
import torch
from mmengine.registry import DefaultScope

from mmgfnuc.models.weights.locate import WEIGHTS_ENV


def pytest_configure(config):
    # As the configs have it (`opencv_num_threads=0`): a worker that is forked beside OpenCV's threads may hang.
    cv2.setNumThreads(0)
    # Models this small gain nothing from more threads, and two processes of pytest share the cores.
    torch.set_num_threads(1)
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    # The tests use random weights on purpose; two softmax channels are the project's contract.
    for message in ('.*RANDOM weights', 'For binary segmentation, we suggest using'):
        config.addinivalue_line('filterwarnings', f'ignore:{message}')


def pytest_collection_modifyitems(items):
    # Files with long tests begin first, so that no process is left alone with one at the end.
    items.sort(key=lambda item: item.get_closest_marker('slow') is None)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """Nothing is fetched: a file that is not there is missing at once."""
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)


@pytest.fixture(autouse=True)
def _scope():
    """A runner, that of a fixture too, leaves its scope behind, in which later tests would look parts up."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def weights_folder(tmp_path, monkeypatch):
    """An empty folder that `$MMGFNUC_WEIGHTS` names."""
    folder = tmp_path / 'weights'
    folder.mkdir()
    monkeypatch.setenv(WEIGHTS_ENV, str(folder))
    return folder


@pytest.fixture
def locked():
    """A context in which another process writes to an output folder."""
    hold = 'import sys, filelock; held = filelock.FileLock(sys.argv[1]); held.acquire(); print(flush=True); input()'

    @contextmanager
    def lock(folder):
        command = [sys.executable, '-c', hold, folder.parent / f'.{folder.name}.lock']
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            holder.stdout.readline()
            yield
            holder.stdin.write(b'\n')
            holder.stdin.close()

    return lock
