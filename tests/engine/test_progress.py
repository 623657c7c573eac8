"""What a run shows: of MMEngine's log what a person needs, the run in a few lines, progress without a flood."""

import logging
import time
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MMLogger
from torch.utils.data import DataLoader

from mmgfnuc import create_model
from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.engine import ProgressHook
from mmgfnuc.engine.screen import ScreenRunner, show
from mmgfnuc.engine.summary import describe


@pytest.fixture
def logger_at(tmp_path, request):
    """Build the logger of a run with a log level; its file is `run.log`."""

    def build(level):
        MMLogger._instance_dict.pop(request.node.name, None)
        runner = ScreenRunner.__new__(ScreenRunner)
        runner._experiment_name = request.node.name
        return runner.build_logger(level, str(tmp_path / 'run.log'))

    yield build
    MMLogger._instance_dict.pop(request.node.name, None)


def say(logger):
    logger.info('Config: 297 lines')
    show(logger, 'step 1/2')
    logger.warning('terms of the licence')
    logger.warning('"FileClient" will be deprecated in future.')


@pytest.mark.parametrize(
    ('level', 'screen', 'in_file'),
    [
        ('INFO', 'step 1/2\nwarning: terms of the licence\n', 4),
        (logging.WARNING, 'warning: terms of the licence\n', 2),
        ('ERROR', '', 0),
    ],
)
def test_the_file_gets_all_and_the_screen_what_a_person_needs(logger_at, tmp_path, capsys, level, screen, in_file):
    say(logger_at(level))
    assert capsys.readouterr().out == screen
    assert len((tmp_path / 'run.log').read_text().splitlines()) == in_file


def test_at_debug_the_screen_gets_all_too(logger_at, capsys):
    say(logger_at('DEBUG'))
    assert len(capsys.readouterr().out.splitlines()) == 4


class Clock:
    """A clock that the test sets."""

    def __init__(self, monkeypatch):
        self.seconds = 0.0
        monkeypatch.setattr(time, 'monotonic', lambda: self.seconds)


def run_of(steps, begin=0):
    lines = []
    logger = SimpleNamespace(info=lambda text, extra: lines.append(text), warning=lines.append)
    hub = SimpleNamespace(
        log_scalars={'train/loss': HistoryBuffer(), 'train/lr': HistoryBuffer()}, get_info=lambda name: 61.2
    )
    return SimpleNamespace(logger=logger, message_hub=hub, max_iters=steps, iter=begin, lines=lines, rank=0)


@pytest.fixture
def shown(monkeypatch):
    """Train with a hook and give the lines of progress: of each step its loss is its number, and it takes a while."""
    monkeypatch.setattr('mmgfnuc.engine.hooks.progress.describe', lambda runner, *parts: 'THE RUN')
    clock = Clock(monkeypatch)

    def train(steps, begin=0, seconds=0.0):
        runner, hook = run_of(steps, begin), ProgressHook(['train'])
        hook.before_train(runner)
        for step in range(begin, steps):
            runner.iter = step
            clock.seconds += seconds
            runner.message_hub.log_scalars['train/loss'].update(step + 1)
            runner.message_hub.log_scalars['train/lr'].update(1e-3)
            hook.after_train_iter(runner, step)
        return runner.lines

    return train


def steps_of(lines):
    return [int(line.split('/')[0].removeprefix('step').replace(',', '')) for line in lines]


def test_progress_is_a_line_for_each_twentieth(shown):
    lines = shown(2000)
    assert lines[0] == 'THE RUN'
    assert steps_of(lines[1:]) == [1, *range(100, 2001, 100)]
    assert ' '.join(lines[1].split()) == 'step 1/2,000 loss 1.0000 learning rate 1.0e-03 remaining 0:01:01'
    # The mean of steps 2 to 100, then of 101 to 200.
    assert 'loss 51.0000' in lines[2]
    assert 'loss 150.5000' in lines[3]


def test_progress_of_short_resumed_and_slow_runs(shown):
    assert steps_of(shown(3)[1:]) == [1, 2, 3]
    assert steps_of(shown(100, begin=93)[1:]) == [94, 95, 100]
    # A line every five minutes at least.
    assert steps_of(shown(100, seconds=120)[1:])[:4] == [1, 4, 5, 8]


def test_nothing_left_to_train_is_said(shown):
    lines = shown(10, begin=10)
    assert 'nothing is left to train: the checkpoint is at step 10' in lines[1]


def test_a_test_says_how_far_it_is_every_half_minute(monkeypatch):
    monkeypatch.setattr('mmgfnuc.engine.hooks.progress.describe', lambda runner, *parts: 'THE RUN')
    clock, runner, hook = Clock(monkeypatch), run_of(1), ProgressHook(['test'])
    runner.test_dataloader = range(8)
    hook.before_test(runner)
    for image in range(8):
        clock.seconds += 11
        hook.after_test_iter(runner, image)
    assert runner.lines == ['THE RUN', '38% of the images tested', '75% of the images tested']


def test_where_the_result_lies(tmp_path):
    runner, hook = run_of(1), ProgressHook(['train'])
    for found in (None, str(tmp_path / 'gone.pth'), str(tmp_path)):
        runner.message_hub.runtime_info = {'last_ckpt': found}
        hook.after_train(runner)
    assert all('no checkpoint was saved' in line for line in runner.lines)
    (tmp_path / 'iter_2.pth').touch()
    runner.message_hub.runtime_info = {'last_ckpt': str(tmp_path / 'iter_2.pth'), 'best_ckpt': 'best_dice_iter_1.pth'}
    hook.after_train(runner)
    assert runner.lines[-2] == f'last checkpoint: {tmp_path / "iter_2.pth"}'
    assert runner.lines[-1] == 'best checkpoint: best_dice_iter_1.pth'


@pytest.fixture
def described(tmp_path):
    """A model on eight training tiles and three for validation, described."""
    write_dataset(tmp_path / 'set', num_train=8, num_val=3, size=64, seed=0)

    def build(model, *parts, begin=0, **dataset):
        cfg, loaders = {}, {}
        for part in parts:
            settings = dict(data_root=str(tmp_path / 'set'), split='default', part=part) | dataset
            cfg[f'{part}_dataloader'] = dict(dataset=settings)
            loaders[f'{part}_dataloader'] = DataLoader(NucleiDataset(**settings), batch_size=4, drop_last=True)
        runner = SimpleNamespace(
            cfg=Config(cfg), model=model, iter=begin, max_iters=1000, seed=3, world_size=2, work_dir='runs/a', **loaders
        )
        return dict(line.split(maxsplit=1) for line in describe(runner, *parts).replace(' data', '').splitlines())

    return build


ENCODER = {'type': 'mmgfnuc.foundation_encoder', 'name': 'vit-tiny', 'weights': 'random', 'out_layers': (0, 1)}
ENCODER |= {'arch': {'embed_dim': 24, 'depth': 2, 'num_heads': 3}}


def test_a_run_in_a_few_lines(described, tmp_path):
    model = create_model('unet', ENCODER, 'context', head='hover', parts={'backbone': {'widths': (4, 8, 16)}})
    lines = described(model, 'train', 'val')
    frozen = sum(parameter.numel() for parameter in model.foundation.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    assert lines['train'].startswith(f'{tmp_path / "set"}, split default: 8 images of ')
    assert lines['val'].startswith(f'{tmp_path / "set"}, split default: 3 images of ')
    assert lines['U-Net'] == 'UNetEncoder, channels 4, 8, 16'
    assert lines['encoder'] == 'vit-tiny, RANDOM weights, frozen'
    assert lines['fusion'].startswith('FusionNeck: ContextFusionBlock, levels ')
    assert lines['head'] == 'HoverHead over UNetHead, 2 classes'
    assert lines['size'] == f'{total:,} parameters, {total - frozen:,} of them trainable'
    assert lines['training'] == 'to step 1,000 (500 epochs), 8 images each; seed 3'
    assert lines['device'].endswith(', 2 processes')
    assert lines['folder'] == 'runs/a'
    model.foundation.weights = 'file.pth'
    lines = described(model, 'train', begin=40, split=None)
    assert lines['encoder'] == 'vit-tiny, pretrained, frozen'
    assert lines['training'].startswith('from step 40 to step 1,000')
    assert lines['train'].startswith(f'{tmp_path / "set"}, all of it: 11 images of ')


def test_a_tuned_encoder_is_tested_with_the_weights_of_its_checkpoint(described):
    model = create_model('unet', ENCODER, 'context', parts={'backbone': {'widths': (4, 8, 16)}})
    model.foundation.tune = 'full'
    lines = described(model, 'train')
    assert lines['encoder'] == 'vit-tiny, RANDOM weights, full'
    lines = described(model, 'val')
    assert lines['encoder'] == 'vit-tiny, pretrained, full'
    assert 'training' not in lines
