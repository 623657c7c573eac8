"""`mmgfnuc train`: what a run leaves behind, what a seed and a resumed run repeat, what a bad input says."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import mmgfnuc
from mmgfnuc.engine import StepSeedHook
from mmgfnuc.engine.provenance import hardware
from mmgfnuc.models.foundation import foundation_encoder


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def differences(first, second, where=''):
    """Where two trees of dicts, lists, tensors and numbers are not bit-equal."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = first.keys() | second.keys()
        return [d for key in keys for d in differences(first.get(key), second.get(key), f'{where}/{key}')]
    if isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        return [d for i, pair in enumerate(zip(first, second, strict=True)) for d in differences(*pair, f'{where}/{i}')]
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [where]
    return [] if first == second else [where]


def assert_same_state(first, second):
    first, second = load(first), load(second)
    assert first['optimizer']['state']
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert differences(first[part], second[part]) == []


def weights_differ(first, second):
    return differences(load(first)['state_dict'], load(second)['state_dict']) != []


def losses(work_dir):
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line['loss'] for line in lines if 'loss' in line]


@pytest.fixture(scope='module')
def straight(tool, config, tmp_path_factory):
    """Ten steps without interruption, a checkpoint at every second one."""
    work_dir = tmp_path_factory.mktemp('straight')
    assert tool('train', config, '--work-dir', work_dir) == 0
    return work_dir


def test_fixtures_have_dropout_and_partial_epochs(config):
    cfg = Config.fromfile(config)
    assert cfg.model.bottleneck_dropout == 0.3
    assert (8 // cfg.train_dataloader.batch_size) % cfg.default_hooks.checkpoint.interval == 0


@pytest.mark.slow
def test_a_run_leaves_checkpoints_scores_and_curves(trained):
    work_dir = trained / 'work_dirs' / 'small'
    assert sorted(path.name for path in work_dir.glob('*.pth')) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']
    (log,) = work_dir.glob('*/*.log')
    progress = [line for line in log.read_text().splitlines() if 'Iter(train)' in line]
    assert len(progress) == 6
    assert all('eta: ' in line for line in progress)
    assert '[6/6]' in progress[-1]
    (events,) = work_dir.glob('*/vis_data/events.out.tfevents.*')
    curves = EventAccumulator(str(events)).Reload()
    assert [event.step for event in curves.Scalars('loss')] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in curves.Scalars('dice')] == [3, 6]
    # The options of the command line have reached the run.
    cfg = Config.fromstring(load(work_dir / 'iter_6.pth')['meta']['cfg'], '.py')
    assert cfg.train_cfg.max_iters == 6
    assert cfg.model.bottleneck_dropout == 0.1
    assert cfg.randomness.seed == cfg.train_dataloader.dataset.seed == 3


@pytest.mark.slow
def test_a_checkpoint_says_what_made_it(straight):
    meta = load(straight / 'iter_10.pth')['meta']
    assert meta['versions']['mmgfnuc'] == mmgfnuc.__version__
    assert meta['versions']['torch'] == torch.__version__.split('+')[0]
    assert meta['dataset_meta']['classes'] == ('background', 'nucleus')
    assert meta['dataset_meta']['mpp'] == meta['preprocessing']['mpp'] == 0.5
    assert meta['seed'] == 0
    assert tuple(Config.fromstring(meta['cfg'], '.py').model.backbone.widths) == (4, 8, 16)
    assert meta['hardware'] == hardware()
    assert re.fullmatch(r'([0-9a-f]{40}(\+changes)?)?', meta['commit'])


def seconds(checkpoint):
    return load(checkpoint)['meta']['train_seconds']


@pytest.mark.slow
def test_seconds_of_training_add_up_over_resuming(tool, config, straight, tmp_path):
    passed = [seconds(straight / f'iter_{step}.pth') for step in (2, 4, 6, 8, 10)]
    assert passed[0] > 0
    assert passed == sorted(passed)
    # As if the first steps had taken a day.
    saved = load(straight / 'iter_8.pth')
    saved['meta']['train_seconds'] = 86400.0
    torch.save(saved, tmp_path / 'slow.pth')
    assert tool('train', config, '--work-dir', tmp_path, '--resume', tmp_path / 'slow.pth') == 0
    assert 0 < seconds(tmp_path / 'iter_10.pth') - 86400 < 3600


@pytest.mark.slow
@pytest.mark.parametrize(('step', 'workers'), [(4, 0), (6, 1)])
def test_resuming_from_any_checkpoint_ends_bit_equal(tool, config, straight, tmp_path, capsys, step, workers):
    loader = [f'train_dataloader.num_workers={workers}']
    resume = ['--resume', straight / f'iter_{step}.pth']
    assert tool('train', config, '--work-dir', tmp_path, *resume, '--cfg-options', *loader) == 0
    assert not (tmp_path / f'iter_{step}.pth').exists()
    notices = [line for line in capsys.readouterr().err.splitlines() if line.startswith('notice')]
    assert len(notices) == (workers > 0)
    assert all('another config than before: train_dataloader.num_workers 0 -> 1' in line for line in notices)
    assert_same_state(tmp_path / 'iter_10.pth', straight / 'iter_10.pth')


@pytest.mark.slow
def test_an_interrupted_run_continues_from_its_last_checkpoint(tool, config, straight, tmp_path, monkeypatch):
    reseed = StepSeedHook.before_train_iter

    def interrupt_at_step_7(hook, runner, batch_idx, data_batch=None):
        if runner.iter == 7:
            raise KeyboardInterrupt
        reseed(hook, runner, batch_idx, data_batch)

    with monkeypatch.context() as patch:
        patch.setattr(StepSeedHook, 'before_train_iter', interrupt_at_step_7)
        assert tool('train', config, '--work-dir', tmp_path) == 130
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_6.pth')
    assert tool('train', config, '--work-dir', tmp_path, '--resume') == 0
    assert_same_state(tmp_path / 'iter_10.pth', straight / 'iter_10.pth')


def rates(work_dir):
    logs = ''.join(path.read_text() for path in sorted(work_dir.glob('*/vis_data/scalars.json')))
    return [line['lr'] for line in map(json.loads, logs.splitlines()) if 'lr' in line]


@pytest.mark.slow
def test_a_finished_run_is_resumed_with_more_steps(tool, config, straight, tmp_path, capsys):
    longer = ['--resume', straight / 'iter_10.pth', '--cfg-options', 'train_cfg.max_iters=14']
    assert tool('train', config, '--work-dir', tmp_path, *longer) == 0
    # The cosine of 14 steps from 1e-3, at its last four.
    expected = [1e-3 * (1 + math.cos(math.pi * step / 14)) / 2 for step in range(10, 14)]
    assert rates(tmp_path) == pytest.approx(expected, rel=1e-6)
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith('warning: schedule')]
    assert 'end of the schedule 10 -> 14' in warning
    assert tool('train', config, '--work-dir', tmp_path, '--resume', '--cfg-options', 'train_cfg.max_iters=14') == 0
    printed = capsys.readouterr().out
    assert 'nothing is left to train: the checkpoint is at step 14' in printed
    assert f'last checkpoint: {tmp_path / "iter_14.pth"}' in printed
    assert len(rates(tmp_path)) == 4


def test_the_screen_shows_what_a_person_needs_and_the_file_all(tool, config, data_root, tmp_path, capsys):
    short = ['--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    assert tool('train', config, '--work-dir', tmp_path, '--split', 'default', '--data', data_root, *short) == 0
    screen = capsys.readouterr().out.splitlines()
    begins = [line.split(maxsplit=1)[0] for line in screen if 'Loads checkpoint' not in line]
    head = ['train', 'val', 'U-Net', 'encoder', 'fusion', 'head', 'size', 'training', 'device', 'folder']
    assert begins == [*head, 'step', 'step', 'validation', 'last', 'next:']
    assert screen[-1] == f'next: mmgfnuc test {tmp_path / "iter_2.pth"}'
    (log,) = tmp_path.glob('*/*.log')
    full = log.read_text()
    assert all(text in full for text in ('System environment', 'Config:', 'Hooks will be executed', *screen))
    assert len(full.splitlines()) > 200


def test_resume_begins_anew_where_there_is_no_checkpoint(tool, config, straight, tmp_path):
    short = ['--cfg-options', 'train_cfg.max_iters=2']
    assert tool('train', config, '--work-dir', tmp_path, '--resume', *short) == 0
    # The learning rates differ, as the schedule is shorter; the first step is the same.
    assert losses(tmp_path)[0] == losses(straight)[0]


@pytest.mark.slow
def test_a_seed_repeats_a_run_and_another_changes_it(tool, config, straight, tmp_path):
    first, again, resumed = (tmp_path / name for name in ('first', 'again', 'resumed'))
    for folder in (first, again):
        assert tool('train', config, '--work-dir', folder, '--seed', 1) == 0
    assert_same_state(again / 'iter_10.pth', first / 'iter_10.pth')
    assert weights_differ(first / 'iter_10.pth', straight / 'iter_10.pth')
    # A resumed run keeps the seed that it was started with.
    assert tool('train', config, '--work-dir', resumed, '--resume', first / 'iter_4.pth') == 0
    assert_same_state(resumed / 'iter_10.pth', first / 'iter_10.pth')


@pytest.fixture(scope='module')
def two_epochs(tool, epoch_config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('epochs')
    assert tool('train', epoch_config, '--work-dir', work_dir) == 0
    return work_dir


@pytest.mark.slow
def test_resuming_at_the_end_of_an_epoch_ends_bit_equal(tool, epoch_config, two_epochs, tmp_path):
    loader = ['--cfg-options', 'train_dataloader.num_workers=1']
    resume = ['--resume', two_epochs / 'epoch_1.pth']
    assert tool('train', epoch_config, '--work-dir', tmp_path, *resume, *loader) == 0
    assert_same_state(tmp_path / 'epoch_2.pth', two_epochs / 'epoch_2.pth')


@pytest.mark.slow
def test_an_epoch_based_run_refuses_a_checkpoint_from_within_an_epoch(tool, epoch_config, two_epochs, tmp_path, capsys):
    resume = ['--resume', two_epochs / 'iter_3.pth']
    assert tool('train', epoch_config, '--work-dir', tmp_path, *resume) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith('error: the checkpoint was saved at step 3, within an epoch of 4 steps')
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.slow
def test_bfloat16_training(tool, config, straight, tmp_path, monkeypatch):
    seen = set()
    convolve = nn.Conv2d.forward

    def record(module, images):
        result = convolve(module, images)
        seen.add(result.dtype)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(nn.Conv2d, 'forward', record)
        short = ['--cfg-options', 'train_cfg.max_iters=3', 'train_cfg.val_interval=9']
        assert tool('train', config, '--work-dir', tmp_path, '--amp', *short) == 0
    assert torch.bfloat16 in seen
    assert len(losses(tmp_path)) == 3
    assert np.isfinite(losses(tmp_path)).all()
    assert losses(tmp_path)[0] == pytest.approx(losses(straight)[0], abs=0.02)
    saved = load(tmp_path / 'iter_3.pth')
    assert {value.dtype for value in saved['state_dict'].values() if value.is_floating_point()} == {torch.float32}
    assert all(state['exp_avg'].dtype == torch.float32 for state in saved['optimizer']['state'].values())
    carried = Config.fromstring(saved['meta']['cfg'], file_format='.py')
    assert carried.optim_wrapper.type == 'mmgfnuc.BFloat16OptimWrapper'


@pytest.fixture
def encoder_files(config, tmp_path):
    """Two weight files in SAM's official form, of the config's small encoder."""
    paths = [tmp_path / 'first.pth', tmp_path / 'second.pth']
    for path in paths:
        arch = Config.fromfile(config).model.foundation.arch
        encoder = foundation_encoder('sam-vit-b', weights='random', arch=arch)
        torch.save({f'image_encoder.{key}': value for key, value in encoder.network.state_dict().items()}, path)
    return paths


@pytest.mark.slow
def test_a_frozen_encoder_stays_in_its_own_file(tool, config, encoder_files, tmp_path, capsys):
    def run(name, *arguments, weights):
        options = ['train_cfg.max_iters=4', f'model.foundation.weights={weights}']
        return tool(name, config, *arguments, '--cfg-options', *options)

    first, second = encoder_files
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    assert run('train', '--work-dir', straight, weights=first) == 0
    saved = load(straight / 'iter_4.pth')['state_dict']
    assert [key for key in saved if key.startswith('foundation.')] == ['foundation.weights_sha256']
    assert run('train', '--work-dir', resumed, '--resume', straight / 'iter_2.pth', weights=first) == 0
    assert_same_state(resumed / 'iter_4.pth', straight / 'iter_4.pth')
    scored = [straight / 'iter_4.pth', '--work-dir', tmp_path / 'test']
    assert run('test', *scored, weights=first) == 0
    assert run('test', *scored, weights=second) == 2
    assert 'was trained with other weights' in capsys.readouterr().err.splitlines()[-1]


def test_every_bad_file_is_named_before_anything_starts(tool, config, data_root, tmp_path, capsys):
    root = tmp_path / 'data'
    shutil.copytree(data_root, root)
    (root / 'images' / 'train_0001.png').write_bytes(b'no picture')
    (root / 'labels' / 'train_0003.png').unlink()
    Image.fromarray(np.ones((5, 96), np.uint16)).save(root / 'labels' / 'val_0002.png')
    work_dir = tmp_path / 'run'
    paths = [f'{part}_dataloader.dataset.data_root={root}' for part in ('train', 'val')]
    assert tool('train', config, '--work-dir', work_dir, '--cfg-options', *paths) == 2
    lines = capsys.readouterr().err.splitlines()
    message = lines[next(i for i, line in enumerate(lines) if line.startswith('error: ')) :]
    assert message[0] == f'error: 3 problems in {root}:'
    for name in ('images/train_0001.png', 'images/train_0003.png', 'labels/val_0002.png'):
        assert sum(line.startswith(f'{root / name}: ') for line in message) == 1
    assert len(message) == 4
    assert not work_dir.exists()


def error_of(tool, capsys, *arguments):
    assert tool('train', *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith('error: ') for line in lines) == 1
    assert lines[-1].startswith('error: ')
    return lines[-1]


@pytest.mark.parametrize(
    'setting',
    [
        'model.decode_head.bogus=1',
        'train_cfg.bogus=5',
        'val_cfg.bogus=5',
        'optim_wrapper.optimizer.bogus=1',
        'train_dataloader.dataset.pipeline.0.bogus=1',
    ],
)
def test_a_misspelt_setting(tool, config, tmp_path, capsys, setting):
    message = error_of(tool, capsys, config, '--work-dir', tmp_path, '--cfg-options', setting)
    assert message.startswith('error: a setting does not exist: ')
    assert "'bogus'" in message


def test_a_bug_in_a_part_keeps_its_traceback(tool, config, tmp_path, monkeypatch):
    def broken(*arguments, **settings):
        raise TypeError('a bug')

    monkeypatch.setattr(StepSeedHook, '__init__', broken)
    with pytest.raises(TypeError, match='a bug'):
        tool('train', config, '--work-dir', tmp_path)


def test_fewer_images_than_a_batch(tool, config, epoch_config, tmp_path, capsys):
    # Without its schedule, which has no length in an epoch without a step.
    for either in (config, epoch_config):
        options = ['--cfg-options', 'train_dataloader.batch_size=9', 'param_scheduler=None']
        message = error_of(tool, capsys, either, '--work-dir', tmp_path, *options)
        assert '8 training images for each process are fewer than a batch of 9' in message
        assert 'set train_dataloader.batch_size lower' in message
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.slow
def test_mistakes_end_in_one_line(tool, config, straight, tmp_path, capsys):
    (tmp_path / 'file').touch()
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    damaged = tmp_path / 'iter_2.pth'
    damaged.write_bytes((straight / 'iter_2.pth').read_bytes()[:10_000])
    (tmp_path / 'last_checkpoint').write_text(str(damaged))
    nowhere = [f'{part}_dataloader.dataset.data_root={tmp_path / "none"}' for part in ('train', 'val')]
    run = [config, '--work-dir', tmp_path]
    for arguments, said in (
        ([straight / 'iter_10.pth'], 'mmgfnuc train CONFIG --resume CHECKPOINT'),
        ([tmp_path / 'none.py'], f"config '{tmp_path / 'none.py'}' is not there"),
        ([tmp_path / 'broken.py'], "broken.py' cannot be used: "),
        ([config, '--work-dir', tmp_path / 'file' / 'run'], f'error: {tmp_path / "file"}: File exists'),
        ([*run, '--cfg-options', *nowhere], f'{tmp_path / "none"} '),
        ([*run, '--resume', tmp_path / 'none.pth'], f"checkpoint '{tmp_path / 'none.pth'}' is not there"),
        ([*run, '--resume'], f"checkpoint '{damaged}' cannot be read"),
        ([*run, '--resume', damaged], f"checkpoint '{damaged}' cannot be read"),
    ):
        assert said in error_of(tool, capsys, *arguments)
    assert tool('train', config, '--seed', -1) == 2
    assert 'error: argument --seed: ' in capsys.readouterr().err.splitlines()[-1]
