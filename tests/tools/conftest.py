"""A synthetic data set, a small config on it, and the commands, run in this process or in their own."""

import os
import subprocess
import sys
import time
from contextlib import chdir
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from mmgfnuc.datasets.synthetic import render_tile, write_dataset
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.inference import Predictor

ROOT = Path(__file__).resolve().parents[2]
SMALL_MODEL = {
    'model.bottleneck_dropout': 0.3,
    'model.backbone.widths': (4, 8, 16),
    'model.decode_head.skip_channels': 4,
    'model.foundation.arch': dict(embed_dim=24, depth=2, num_heads=3, global_attn_indexes=(1,)),
}
# Four steps an epoch: steps 2 and 6 lie within one, step 4 ends one.
SHORT_RUN = {
    'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.pipeline.0.size': 64,
    'train_cfg.max_iters': 10,
    'train_cfg.val_interval': 10,
    'default_hooks.checkpoint.interval': 2,
    'default_hooks.checkpoint.max_keep_ckpts': -1,
    'default_hooks.logger.interval': 1,
}


def dump(cfg, path):
    cfg.dump(path)
    return path


@pytest.fixture(scope='session', autouse=True)
def _package_importable():
    """By every process that a tool or a test starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(ROOT), prepend=os.pathsep)
        yield


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    """Eight training tiles and five validation tiles, an odd number, of 96 pixels."""
    root = tmp_path_factory.mktemp('data') / 'synthetic'
    write_dataset(root, num_train=8, num_val=5, size=96, seed=0)
    return root


@pytest.fixture(scope='session')
def config(data_root, tmp_path_factory):
    """The demo's config, made small."""
    options = {**SMALL_MODEL, **SHORT_RUN}
    for part in ('train', 'val', 'test'):
        loader = f'{part}_dataloader'
        options |= {f'{loader}.num_workers': 0, f'{loader}.persistent_workers': False}
        options |= {f'{loader}.dataset.data_root': str(data_root)}
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'demo.py')
    cfg.merge_from_dict(options)
    return dump(cfg, tmp_path_factory.mktemp('configs') / 'small.py')


@pytest.fixture(scope='session')
def epoch_config(config):
    """The same by epochs, of four steps; checkpoints at the end of each and, as iter_3.pth, within one."""
    cfg = Config.fromfile(config)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=2)
    checkpoint = cfg.default_hooks.checkpoint
    cfg.custom_hooks.append({**checkpoint, 'by_epoch': False, 'interval': 3})
    checkpoint.update(by_epoch=True, interval=1)
    cfg.log_processor.by_epoch = True
    return dump(cfg, config.with_name('epochs.py'))


@pytest.fixture(scope='session')
def tool():
    """Runs a command in this process and gives its exit code."""

    def run(name, *arguments):
        main = import_module(f'mmgfnuc.commands.{name}').main
        # Runs that begin within one second share their name, and with it what MMEngine keeps by name.
        for logger in MMLogger._instance_dict.values():
            for handler in logger.handlers:
                handler.close()  # else its file warns whenever it is collected, in the middle of another test
        for named in (MMLogger, MessageHub, Visualizer):
            named._instance_dict.clear()
        # On images this small more threads only wait for each other.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return run_cli(lambda: main([str(argument) for argument in arguments]))
        except SystemExit as end:
            return end.code
        finally:
            torch.set_num_threads(threads)

    return run


@pytest.fixture(scope='session')
def process():
    """Runs a tool, Python or shell, in its own process, from any folder, and checks its exit code."""

    def run(name, *arguments, cwd, code=0, **environment):
        settings = {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
        program = 'bash' if name.endswith('.sh') else sys.executable
        done = subprocess.run(
            [program, str(ROOT / 'tools' / name), *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **settings, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
        return done

    return run


@pytest.fixture(scope='session')
def all_end():
    """Waits a minute for processes to end, and says whether they have."""

    def runs(pid):
        try:
            return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
        except OSError:
            return False

    def wait(pids):
        end = time.monotonic() + 60
        while any(map(runs, pids)) and time.monotonic() < end:
            time.sleep(0.05)
        return not any(map(runs, pids))

    return wait


@pytest.fixture(scope='session')
def trained(tool, config, tmp_path_factory):
    """A training run; the folder it was started in."""
    folder = tmp_path_factory.mktemp('trained')
    overrides = ['train_cfg.max_iters=6', 'train_cfg.val_interval=3', 'model.bottleneck_dropout=0.1']
    with chdir(folder):
        assert tool('train', config, '--tensorboard', '--seed', 3, '--cfg-options', *overrides) == 0
    return folder


@pytest.fixture(scope='session')
def checkpoint(trained, data_root):
    """The checkpoint of `trained`, its output shifted so that it finds nuclei in about a fifth of the pixels."""
    source = trained / 'work_dirs' / 'small' / 'iter_6.pth'
    model = Predictor(source, device='cpu').model
    image = render_tile(np.random.default_rng(0), 96)[0]
    with torch.inference_mode():
        logits = model.encode_decode(torch.from_numpy(image).permute(2, 0, 1)[None] / 255.0)
    saved = torch.load(source, weights_only=False)
    saved['state_dict']['decode_head.decoder.conv_seg.bias'][1] -= torch.quantile(logits[0, 1] - logits[0, 0], 0.8)
    torch.save(saved, trained / 'shifted.pth')
    return trained / 'shifted.pth'


@pytest.fixture(scope='session')
def scored(tool, config, checkpoint, tmp_path_factory):
    """A test run with all outputs; its folder holds masks/, pictures/ and run/test/."""
    folder = tmp_path_factory.mktemp('scored')
    outputs = ['--work-dir', 'run', '--out', 'masks', '--show-dir', 'pictures']
    with chdir(folder):
        assert tool('test', config, checkpoint, *outputs) == 0
    return folder
