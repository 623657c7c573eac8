import os
import subprocess
import sys
from contextlib import contextmanager
from importlib import invalidate_caches
from textwrap import dedent

import cv2
import pytest
import torch
from mmengine.registry import DefaultScope

from mmgfnuc import extensions
from mmgfnuc.models.weights.locate import WEIGHTS_ENV
from mmgfnuc.registry import MODELS


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


OWN_PARTS = """
    import mmgfnuc
    from torch import nn

    from mmgfnuc.models.backbones import UNetEncoder
    from mmgfnuc.models.decode_heads import BoundaryHead
    from mmgfnuc.models.necks import FusionBlock


    class FilmBlock(FusionBlock):
        def __init__(self, in_channels, context_channels, attention=False, max_keys=None, gain=1.0):
            super().__init__()
            self.gain = gain
            self.project = nn.Conv2d(context_channels, 2 * in_channels, 1)

        def forward(self, local, context, step=None):
            scale, shift = self.project(context).chunk(2, dim=1)
            return local * (1 + self.gain * scale) + shift


    class OwnUNet(UNetEncoder):
        pass


    class OwnHead(BoundaryHead):
        pass


    class OwnEncoder(nn.Module):
        out_channels, out_strides = (5, 6), (4, 8)
        mean = std = (0.5, 0.5, 0.5)

        def __init__(self, width=5):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, width, 4, stride=4), nn.Conv2d(width, 6, 2, stride=2)

        def forward(self, images):
            first = self.first(images)
            return [first, self.second(first)]


    class NotNamed(FilmBlock):
        pass
"""
REGISTERING = """

    mmgfnuc.register_unet('Own_UNet', {'type': OwnUNet, 'widths': (4, 8)})
    mmgfnuc.register_fusion('film', {'type': FilmBlock, 'gain': 0.5})
    mmgfnuc.register_head('own-head', {'type': OwnHead})
    mmgfnuc.register_encoder('own-encoder', {'type': OwnEncoder, 'width': 5})
"""


@pytest.fixture
def own_parts(tmp_path, monkeypatch):
    """Writes a module of own parts, installed where it has an entry point; afterwards all of it is forgotten."""
    from mmgfnuc.inference import dumped_config  # as the next one, not light: few tests need them
    from mmgfnuc.models.foundation import CATALOGUE

    MODELS.import_from_location()
    folder = tmp_path / 'own'
    written = set()
    kept = [*extensions.REGISTERED.values(), CATALOGUE, MODELS.module_dict]
    before = [dict(one) for one in kept]
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def write(name='own_parts', registers=REGISTERING, entry_point=None, installed=True):
        folder.mkdir(exist_ok=True)
        written.add(name)
        (folder / f'{name}.py').write_text(dedent(OWN_PARTS) + dedent(registers))
        if entry_point:
            facts = folder / f'{name.replace("_", "-")}-1.2.dist-info'
            facts.mkdir()
            (facts / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name.replace("_", "-")}\nVersion: 1.2\n')
            (facts / 'entry_points.txt').write_text(f'[{extensions.GROUP}]\nanything = {entry_point}\n')
        if installed:
            sys.path.insert(0, str(folder))
        invalidate_caches()
        forget()
        return folder

    def forget():
        monkeypatch.setattr(extensions, '_loaded', None)
        dumped_config._import_own.cache_clear()
        for name in written:
            sys.modules.pop(name, None)
        for one, content in zip(kept, before, strict=True):
            one.clear()
            one.update(content)

    yield write
    forget()
