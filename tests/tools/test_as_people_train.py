"""The lines of docs/training.md, "As people train", each in a config that inherits a finished one, and is trained."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmgfnuc.inference import Predictor
from mmgfnuc.models.foundation import foundation_encoder

from .conftest import ROOT, SMALL_MODEL

pytestmark = pytest.mark.slow
PAGE = (ROOT / 'docs' / 'training.md').read_text(encoding='utf-8')
LINES = dict(re.findall(r'^\| ([^|]+) \| `(.+)` \|$', PAGE.partition('## As people train')[2], re.MULTILINE))
CHILD = """from mmengine.config import read_base

from mmgfnuc.engine import AverageWeightsHook, EarlyStopHook

with read_base():
    from .{base} import *

{lines}
"""
# The hook that a line has added comes after these.
OURS = 'custom_hooks.4'
STUB = """
calls = []


class Call:
    def __init__(self, name):
        self.name = name

    def __getattr__(self, name):
        return Call(f'{self.name}.{name}')

    def __call__(self, *arguments, **settings):
        calls.append((self.name, arguments, settings))


def __getattr__(name):
    if name.startswith('__'):
        raise AttributeError(name)
    return Call(name)
"""


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def logged(folder):
    (log,) = folder.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


@pytest.fixture(scope='module')
def train(tool, config, tmp_path_factory):
    """Trains a child of the small config with lines of the page, its foundation encoder frozen, from a file."""
    folder = tmp_path_factory.mktemp('encoder')
    arch = SMALL_MODEL['model.foundation.arch']
    network = foundation_encoder(name='sam-vit-b', arch=arch, weights='random', input_size=None).network
    save_file(dict(network.state_dict()), folder / 'tiny.safetensors')
    fixed = [f'model.foundation.weights={folder}/tiny.safetensors', 'default_hooks.checkpoint.interval=1']

    def run(work_dir, *purposes, options=(), more='', flags=(), code=0):
        child = config.with_name(f'child_{len(list(config.parent.glob("child_*")))}.py')
        lines = [LINES[purpose] for purpose in purposes]
        child.write_text(CHILD.format(base=config.stem, lines='\n'.join([*lines, more])))
        assert tool('train', child, '--work-dir', work_dir, *flags, '--cfg-options', *fixed, *options) == code
        return work_dir

    return run


AVERAGE = 'average of the weights (EMA)'
# A rate at which so few steps find some nuclei.
FAST = 'optim_wrapper.optimizer.lr=0.03'
BY_STEPS = ('train_cfg.max_iters=4', 'train_cfg.val_interval=2', FAST)


@pytest.fixture(scope='module')
def averaged(train, tmp_path_factory):
    """Four steps with averages."""
    return train(tmp_path_factory.mktemp('averaged'), AVERAGE, options=BY_STEPS)


def test_averages_by_their_formula(train, averaged, tmp_path):
    """Of the weights of a run without them, which the averages leave alone."""
    plain = train(tmp_path, options=BY_STEPS)
    expected = None
    for step in range(1, 5):
        weights, saved = load(plain / f'iter_{step}.pth')['state_dict'], load(averaged / f'iter_{step}.pth')
        trained = {key: weights[key] for key in saved['average']['weights']}
        assert_equal(saved['average']['weights'], trained)
        assert saved['average']['steps'] == step
        share = min(0.999, (1 + step) / (10 + step))
        if expected is None:
            # Batch norms begin with ones.
            norms = [key for key in trained if key.endswith('norm.weight') or key.endswith('running_var')]
            assert norms
            expected = {key: torch.ones_like(trained[key]) for key in norms}
        expected = {key: share * value.double() + (1 - share) * trained[key] for key, value in expected.items()}
        for key, value in expected.items():
            torch.testing.assert_close(saved['state_dict'][key].double(), value, rtol=1e-5, atol=1e-7)
        assert saved['state_dict'].keys() == weights.keys()


def test_averages_leave_the_frozen_encoder_out(averaged):
    saved = load(averaged / 'iter_4.pth')
    assert [key for key in saved['state_dict'] if 'foundation.network' in key] == []
    assert [key for key in saved['average']['weights'] if 'foundation.network' in key] == []


def test_what_is_validated_is_what_is_tested_and_predicts(tool, train, averaged, tmp_path):
    scores = [line for line in logged(averaged) if 'dice' in line][-1]
    options = ['--cfg-options', 'test_dataloader.dataset.part=val']
    assert tool('test', averaged / 'iter_4.pth', '--work-dir', tmp_path / 'tested', *options) == 0
    tested = json.loads((tmp_path / 'tested' / 'test' / 'metrics.json').read_text())
    assert tested['dice'] == pytest.approx(scores['dice'], abs=1e-6)
    assert tested['dice'] > 0
    weights, model = load(averaged / 'iter_4.pth')['state_dict'], Predictor(averaged / 'iter_4.pth', device='cpu').model
    own = model.state_dict()
    assert_equal({key: own[key] for key in weights}, weights)


def test_a_resumed_run_with_averages_is_bit_equal(train, averaged, tmp_path):
    train(tmp_path, AVERAGE, options=BY_STEPS, flags=['--resume', averaged / 'iter_2.pth'])
    straight, resumed = (load(folder / 'iter_4.pth') for folder in (averaged, tmp_path))
    assert_equal(straight['state_dict'], resumed['state_dict'])
    assert_equal(straight['average']['weights'], resumed['average']['weights'])
    assert straight['average']['steps'] == resumed['average']['steps']


def test_averages_are_not_trained_on_by_mistake(train, averaged, tmp_path, capsys):
    train(tmp_path, options=BY_STEPS, flags=['--resume', averaged / 'iter_2.pth'], code=2)
    assert 'are averages, and the config has no AverageWeightsHook' in capsys.readouterr().err


def test_a_damaged_average_is_refused(train, averaged, tmp_path, capsys):
    saved = load(averaged / 'iter_2.pth')
    saved['average']['weights'].popitem()
    torch.save(saved, tmp_path / 'damaged.pth')
    train(tmp_path, AVERAGE, options=BY_STEPS, flags=['--resume', tmp_path / 'damaged.pth'], code=2)
    assert 'averaged weights of the checkpoint do not fit' in capsys.readouterr().err


# No score can be better by more than 1 than the first.
STOPPED = (
    *(f'{OURS}.patience=2', f'{OURS}.min_delta=1.0', 'train_cfg.val_interval=1', 'train_cfg.max_iters=10'),
    *('default_hooks.checkpoint.interval=2', 'default_hooks.checkpoint.max_keep_ckpts=1', FAST),
)


def test_an_early_stop_and_the_best_checkpoint(tool, train, tmp_path, capsys):
    """It ends at the third validation, step 3, and so does a run that goes on from step 2."""
    train(tmp_path, 'early stop', 'best checkpoint', options=STOPPED)
    shown = capsys.readouterr()
    assert 'ends early, at step 3: pq has not been better' in shown.out + shown.err
    names = sorted(path.name for path in tmp_path.glob('*.pth'))
    (best,) = [name for name in names if name.startswith('best_pq_iter_')]
    assert names == [best, 'iter_3.pth']
    last = load(tmp_path / 'iter_3.pth')
    info = last['message_hub']['runtime_info']
    assert (info['early_stop_pq'][1], info['best_ckpt']) == (2, str(tmp_path / best))
    scores = {line['step']: line['pq'] for line in logged(tmp_path) if 'pq' in line}
    assert info['best_score'] == max(scores.values()) == scores[int(best[13:-4])] > 0
    # It has ended, and stays so.
    train(tmp_path, 'early stop', 'best checkpoint', options=STOPPED, flags=['--resume'])
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == names
    # Both are checkpoints like others.
    options = ['--cfg-options', 'test_dataloader.dataset.part=val']
    for name in names:
        assert tool('test', tmp_path / name, '--work-dir', tmp_path / name[:-4], *options) == 0
        tested = json.loads((tmp_path / name[:-4] / 'test' / 'instances.json').read_text())
        assert tested['pq'] == pytest.approx(scores[int(name.rpartition('_')[2][:-4])], abs=1e-6)


def test_a_resumed_run_stops_where_it_would_have(train, tmp_path):
    """From the checkpoint of a step that was validated after it was saved."""
    options = (*STOPPED, 'default_hooks.checkpoint.max_keep_ckpts=-1')
    train(tmp_path, 'early stop', 'best checkpoint', options=options)
    straight = load(tmp_path / 'iter_3.pth')
    (tmp_path / 'iter_3.pth').unlink()
    flags = ['--resume', tmp_path / 'iter_2.pth']
    train(tmp_path, 'early stop', 'best checkpoint', options=options, flags=flags)
    resumed = load(tmp_path / 'iter_3.pth')
    assert_equal(straight['state_dict'], resumed['state_dict'])
    for key in ('early_stop_pq', 'best_score', 'best_ckpt'):
        assert straight['message_hub']['runtime_info'][key] == resumed['message_hub']['runtime_info'][key]
    assert len(list(tmp_path.glob('best_*.pth'))) == 1


@pytest.mark.parametrize('purpose', ['early stop', 'best checkpoint'])
def test_a_score_that_is_not_there_is_named_before_anything_runs(train, tmp_path, capsys, purpose):
    setting = f'{OURS}.monitor' if purpose == 'early stop' else 'default_hooks.checkpoint.save_best'
    train(tmp_path / 'new', purpose, options=[f'{setting}=mpq'], code=2)
    assert "follows 'mpq', which the validation does not give; it gives dice" in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()


def test_class_weights(train, tmp_path, capsys):
    """The semantic head has its loss itself."""
    line = LINES['class weights'].replace('.decoder', '')
    for name, weights in (('weighted', '[1, 5]'), ('plain', 'None')):
        options = ['train_cfg.max_iters=1', 'train_cfg.val_interval=2']
        train(tmp_path / name, options=options, more=line.replace('[1, 5]', weights))
    losses = {name: logged(tmp_path / name)[0]['loss'] for name in ('weighted', 'plain')}
    assert losses['weighted'] != losses['plain']
    train(tmp_path / 'wrong', more=line.replace('[1, 5]', '[1, 5, 5]'), code=2)
    assert 'has 3 weights, the decoder 2 classes' in capsys.readouterr().err
    assert not (tmp_path / 'wrong').exists()


SGD = "optim_wrapper.optimizer = dict(type='SGD', lr=0.05)\nparam_scheduler = None"
PLAIN = ('model.bottleneck_dropout=0.0', 'train_cfg.val_interval=100')


def test_accumulated_gradients_are_those_of_the_large_batch(train, tmp_path, monkeypatch):
    """Of a model without batch statistics; the last two batches make one step."""
    monkeypatch.setattr(nn.BatchNorm2d, 'train', lambda norm, mode=True: nn.Module.train(norm, False))
    more = f"{SGD}\nmodel.decode_head.loss_decode = dict(type='mmgfnuc.DiceFocalLoss', dice_per_image=True)"
    small, large = (*PLAIN, 'train_dataloader.batch_size=1'), (*PLAIN, 'train_dataloader.batch_size=4')
    train(tmp_path / 'large', options=[*large, 'train_cfg.max_iters=2'], more=more)
    train(tmp_path / 'small', 'accumulated gradients', AVERAGE, options=[*small, 'train_cfg.max_iters=10'], more=more)
    for step in (1, 2):
        weights = load(tmp_path / 'large' / f'iter_{step}.pth')['state_dict']
        saved = load(tmp_path / 'small' / f'iter_{4 * step}.pth')
        assert saved['average']['steps'] == step
        for key, value in saved['average']['weights'].items():
            torch.testing.assert_close(value, weights[key], rtol=1e-4, atol=1e-6)
    left = [load(tmp_path / 'small' / f'iter_{step}.pth')['average'] for step in (8, 9, 10)]
    assert [average['steps'] for average in left] == [2, 2, 3]
    assert_equal(left[0]['weights'], left[1]['weights'])


@pytest.mark.parametrize('flags', [[], ['--amp']])
def test_clipped_gradients(train, tmp_path, flags):
    """SGD goes the clipped gradient times its rate."""
    options = [*PLAIN, 'optim_wrapper.clip_grad.max_norm=0.01', 'train_cfg.max_iters=2']
    train(tmp_path, 'clipped gradients', options=options, more=SGD, flags=flags)
    first, second = (load(tmp_path / f'iter_{step}.pth')['state_dict'] for step in (1, 2))
    moved = [
        (second[key] - first[key]).double().square().sum()
        for key in first
        if 'running' not in key and 'tracked' not in key
    ]
    assert logged(tmp_path)[1]['grad_norm'] > 0.01
    assert torch.stack(moved).sum().sqrt().item() == pytest.approx(0.05 * 0.01, rel=1e-2)


def test_layer_decay_beside_averages_and_accumulation(train, tmp_path, capsys):
    purposes = ('layer decay', AVERAGE, 'accumulated gradients')
    more = "model.foundation.update(tune='full')\nparam_scheduler = None"
    train(tmp_path, *purposes, options=[*PLAIN, 'train_cfg.max_iters=4'], more=more)
    saved = load(tmp_path / 'iter_4.pth')
    rates = sorted({group['lr'] for group in saved['optimizer']['param_groups']})
    assert rates == pytest.approx([1e-3 * 0.75**depth for depth in range(len(rates))][::-1])
    assert len(rates) == 4  # embeddings, two blocks, neck
    assert saved['average']['steps'] == 1
    assert any('foundation.network' in key for key in saved['average']['weights'])
    train(tmp_path / 'frozen', 'layer decay', code=2)
    assert 'this one is frozen' in capsys.readouterr().err
    assert not (tmp_path / 'frozen').exists()


TRACKERS = {'Weights & Biases': 'wandb', 'MLflow': 'mlflow'}


@pytest.mark.parametrize('purpose', TRACKERS)
def test_a_tracker_that_is_not_installed_is_named_first(train, tmp_path, monkeypatch, capsys, purpose):
    """Also beside a folder of its name, as it makes one itself, or a config of its name."""
    package = TRACKERS[purpose]
    if purpose == 'MLflow':
        (tmp_path / f'{package}.py').touch()
        monkeypatch.chdir(tmp_path)
    else:
        (tmp_path / package).mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    train(tmp_path / 'new', purpose, code=2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')]
    assert f'{package} is not installed; pip install {package}' in line
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('purpose', TRACKERS)
def test_a_tracker_gets_losses_and_scores_beside_tensorboard(train, tmp_path, monkeypatch, purpose):
    package = TRACKERS[purpose]
    (tmp_path / 'stubs' / package).mkdir(parents=True)
    (tmp_path / 'stubs' / package / '__init__.py').write_text(STUB)
    monkeypatch.syspath_prepend(tmp_path / 'stubs')
    train(
        tmp_path / 'run',
        purpose,
        options=['train_cfg.max_iters=2', 'train_cfg.val_interval=2'],
        flags=['--tensorboard'],
    )
    calls = __import__(package).calls
    text = repr([arguments for _, *arguments in calls])
    assert 'loss' in text
    assert 'dice' in text
    assert list((tmp_path / 'run').glob('*/vis_data/events.out.tfevents.*'))
    assert [line['step'] for line in logged(tmp_path / 'run') if 'loss' in line] == [1, 2]
