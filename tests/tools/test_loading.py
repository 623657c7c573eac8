"""What the commands do with files that are hostile or damaged, and with a training that diverges.

All combinations are in tools/checks/hostile_loaders.py.
"""

import os

import numpy as np
import pytest
import torch
from hostile_files import Reduce

from mmgfnuc.models.foundation import foundation_encoder


@pytest.fixture(scope='module')
def straight(tool, config, tmp_path_factory):
    """Two steps, a checkpoint after each."""
    work_dir = tmp_path_factory.mktemp('straight')
    options = ['train_cfg.max_iters=2', 'default_hooks.checkpoint.interval=1']
    assert tool('train', config, '--work-dir', work_dir, '--cfg-options', *options) == 0
    return work_dir


@pytest.fixture(scope='module')
def saved(straight):
    return torch.load(straight / 'iter_1.pth', weights_only=False)


def weights_of(saved):
    return saved.get('state_dict', saved)


def with_weight(saved, value):
    changed = weights_of(saved) | {'x': value}
    return saved | {'state_dict': changed} if 'state_dict' in saved else changed


ATTACKS = {
    'system': lambda saved, path, proof: torch.save(with_weight(saved, Reduce(os.system, f'touch {proof}')), path),
    'eval': lambda saved, path, proof: torch.save(with_weight(saved, Reduce(eval, f'open({str(proof)!r}, "w")')), path),
    'truncated': lambda saved, path, proof: (torch.save(saved, path), os.truncate(path, path.stat().st_size // 2)),
    'flipped': lambda saved, path, proof: flip(saved, path),
}


def flip(saved, path):
    """One bit of a weight."""
    torch.save(saved, path)
    weight = next(value for value in weights_of(saved).values() if value.numel() > 100)
    content = bytearray(path.read_bytes())
    content[content.index(bytes(weight.untyped_storage())) + 7] ^= 64
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize('attack', ATTACKS)
@pytest.mark.parametrize('entry', ['infer', 'test', 'resume', 'load_from', 'foundation'])
def test_a_file_is_data(tool, config, saved, data_root, tmp_path, capsys, entry, attack):
    path, proof = tmp_path / 'hostile.pth', tmp_path / 'ran'
    content = saved
    if entry == 'foundation':
        arch = dict(embed_dim=24, depth=2, num_heads=3, global_attn_indexes=(1,))
        content = foundation_encoder('sam-vit-b', weights='random', arch=arch).network.state_dict()
    ATTACKS[attack](content, path, proof)
    run = [config, '--work-dir', tmp_path / 'run']
    arguments = {
        'infer': ['predict', data_root / 'images' / 'val_0000.png', '--model', path, '--out', tmp_path / 'out'],
        'test': ['test', config, path, '--work-dir', tmp_path / 'run'],
        'resume': ['train', *run, '--resume', path],
        'load_from': ['train', *run, '--cfg-options', f'load_from={path}'],
        'foundation': ['train', *run, '--cfg-options', f'model.foundation.weights={path}'],
    }
    assert tool(*arguments[entry]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith('error: ')
    assert 'hostile.pth' in lines[-1]
    assert sum(line.startswith('error: ') for line in lines) == 1
    assert not proof.exists()


def error_of(tool, capsys, *arguments):
    assert tool(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith('error: ')
    return lines[-1]


@pytest.mark.slow
def test_weights_that_are_not_finite_are_not_tested(tool, config, saved, tmp_path, capsys):
    name = next(key for key, value in saved['state_dict'].items() if value.is_floating_point())
    broken = {
        **saved,
        'state_dict': {**saved['state_dict'], name: torch.full_like(saved['state_dict'][name], torch.nan)},
    }
    torch.save(broken, tmp_path / 'nan.pth')
    message = error_of(tool, capsys, 'test', config, tmp_path / 'nan.pth', '--work-dir', tmp_path / 'run')
    assert f'{name} holds NaN or infinity' in message
    assert not (tmp_path / 'run' / 'test').exists()


def finite(path):
    return all(
        np.isfinite(value.numpy()).all() for value in torch.load(path, weights_only=False)['state_dict'].values()
    )


# A rate that destroys the weights.
DIVERGING = ['optim_wrapper.optimizer.lr=1e30', 'param_scheduler=None']


def error_of_training(tool, capsys, config, folder, *options, flags=()):
    arguments = [config, *flags, '--work-dir', folder, '--cfg-options', *DIVERGING, *options]
    return error_of(tool, capsys, 'train', *arguments)


@pytest.mark.parametrize('amp', [[], ['--amp']], ids=['float32', 'bfloat16'])
def test_a_training_that_diverges_ends_in_one_line(tool, config, tmp_path, capsys, amp):
    options = ['default_hooks.checkpoint.interval=99', 'train_cfg.max_iters=40']
    message = error_of_training(tool, capsys, config, tmp_path, *options, flags=amp)
    assert 'training diverged: the loss is not finite since step ' in message
    assert 'none was saved before' in message
    (log,) = tmp_path.glob('*/*.log')
    assert 3 < log.read_text().count('Iter(train)') < 15
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.slow
def test_the_last_finite_checkpoint_is_kept(tool, config, straight, tmp_path, capsys):
    """Resumed with a rate that destroys it, at a step that saves."""
    options = ['default_hooks.checkpoint.interval=1', f'load_from={straight}/iter_2.pth']
    message = error_of_training(tool, capsys, config, tmp_path, *options)
    assert 'is not finite' in message
    paths = sorted(tmp_path.glob('*.pth'))
    assert all(finite(path) for path in paths)
    last = (tmp_path / 'last_checkpoint').read_text()
    assert str(paths[-1]) == last
    assert f'the last finite checkpoint is {last};' in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ('interval', 'said'), [(99, 'diverged: the loss is not finite since step 2'), (1, 'not finite')]
)
def test_two_processes_end_together_in_one_line(process, config, tmp_path, interval, said):
    """Before a checkpoint is saved, and at a step that saves."""
    options = [*DIVERGING, 'train_dataloader.batch_size=1', f'default_hooks.checkpoint.interval={interval}']
    options += ['train_cfg.max_iters=40', 'train_cfg.val_interval=99']
    run = ['dist_train.sh', config, 2, '--work-dir', tmp_path / 'run', '--cfg-options', *options]
    printed = process(*run, cwd=tmp_path, code=2).stderr
    assert printed.count('error: ') == 1
    assert said in printed
    assert 'Traceback' not in printed
