from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mmgfnuc.engine import CheckpointGuardHook, StepBasedTrainLoop, StepSeedHook
from mmgfnuc.errors import UserError


def draw(seed=0, rank=0, step=0):
    StepSeedHook().before_train_iter(SimpleNamespace(seed=seed, rank=rank, iter=step), 0)
    return torch.rand(4)


def test_random_numbers_depend_on_seed_process_and_step_alone():
    first = draw()
    torch.rand(7)
    assert torch.equal(draw(), first)
    for other in (draw(seed=1), draw(rank=1), draw(step=1)):
        assert not torch.equal(other, first)
    assert not torch.equal(draw(rank=1), draw(step=1))


def loop(cls, step, epoch, steps_in_epoch=4):
    made = cls.__new__(cls)
    made._iter, made._epoch, made.dataloader = step, epoch, [None] * steps_in_epoch
    return SimpleNamespace(train_loop=made)


def test_where_a_run_may_begin():
    for runner in (
        loop(EpochBasedTrainLoop, 0, 0),
        loop(EpochBasedTrainLoop, 8, 2),
        loop(StepBasedTrainLoop, 7, 0),
    ):
        StepSeedHook().before_train(runner)


@pytest.mark.parametrize(('step', 'epoch'), [(3, 0), (7, 1), (10, 2)])
def test_a_checkpoint_from_within_an_epoch_is_refused(step, epoch):
    with pytest.raises(UserError, match=f'saved at step {step}, within an epoch of 4 steps'):
        StepSeedHook().before_train(loop(EpochBasedTrainLoop, step, epoch))


def wrapped(model):
    """As in a distributed run, without starting one."""
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = model
    return wrapper


@pytest.mark.parametrize('wrap', [lambda model: model, wrapped], ids=['plain', 'distributed'])
def test_guard_compares_a_checkpoint_with_the_model(wrap):
    model = nn.Linear(2, 3)
    runner = SimpleNamespace(model=wrap(model))
    CheckpointGuardHook().after_load_checkpoint(runner, {'state_dict': model.state_dict()})
    with pytest.raises(UserError, match='has weight as'):
        CheckpointGuardHook().after_load_checkpoint(runner, {'state_dict': nn.Linear(5, 3).state_dict()})
