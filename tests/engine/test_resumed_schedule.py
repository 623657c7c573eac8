"""Rates of a resumed run against those that its config has from the start, by hand and by a run without a pause."""

import copy
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import (
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    OptimWrapper,
    OptimWrapperDict,
    PolyLR,
    ReduceOnPlateauLR,
)
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mmgfnuc.engine import ResumedScheduleHook, StepBasedTrainLoop
from mmgfnuc.errors import UserError

EPOCH = 4
RATE = 0.1


def make(schedules, steps, loop=StepBasedTrainLoop, optimizer=torch.optim.Adam, groups=1, **settings):
    """What MMEngine has built when it loads a checkpoint: an optimiser and schedules before their first step."""
    torch.manual_seed(0)
    parameters = [{'params': [nn.Parameter(torch.ones(2))]} for _ in range(groups)]
    wrapper = OptimWrapper(optimizer(parameters, **({'lr': RATE} | settings)))
    built = [schedule(wrapper, steps) for schedule in schedules]
    warnings = []
    return SimpleNamespace(
        _resume=True,
        optim_wrapper=wrapper,
        param_schedulers=built or None,
        train_loop=loop.__new__(loop),
        train_dataloader=range(EPOCH),
        max_iters=steps,
        logger=SimpleNamespace(warning=warnings.append),
        warnings=warnings,
    )


def train(runner, begin, end):
    """Step as a training does, and return the rate of each step."""
    rates = []
    for step in range(begin, end):
        rates.append(runner.optim_wrapper.get_lr()['lr'][0])
        for group in runner.optim_wrapper.optimizer.param_groups:
            group['params'][0].grad = torch.full((2,), 0.5)
        runner.optim_wrapper.step()
        for schedule in runner.param_schedulers or []:
            by_epoch = schedule.by_epoch and isinstance(runner.train_loop, EpochBasedTrainLoop)
            if not schedule.by_epoch or (by_epoch and (step + 1) % EPOCH == 0):
                schedule.step()
    return rates


def saved(runner, step):
    states = [schedule.state_dict() for schedule in runner.param_schedulers or []]
    made = {'optimizer': runner.optim_wrapper.state_dict(), 'param_schedulers': states}
    return copy.deepcopy({**made, 'meta': {'iter': step, 'epoch': step // EPOCH}})


def resume(runner, checkpoint):
    """As `Runner.resume` does."""
    ResumedScheduleHook().after_load_checkpoint(runner, checkpoint)
    runner.optim_wrapper.load_state_dict(checkpoint['optimizer'])
    for schedule, state in zip(runner.param_schedulers or [], checkpoint['param_schedulers'], strict=True):
        schedule.load_state_dict(state)


def cosine(wrapper, steps):
    return CosineAnnealingLR(wrapper, by_epoch=False, eta_min=0.0, end=steps)


def poly(wrapper, steps):
    return PolyLR(wrapper, by_epoch=False, eta_min=0.0, power=0.9, end=steps)


def warm_up(wrapper, steps):
    return LinearLR(wrapper, start_factor=0.1, by_epoch=False, end=3)


def by_epochs(wrapper, steps):
    return CosineAnnealingLR(wrapper, by_epoch=True, eta_min=0.0, end=steps // EPOCH)


def milestones(wrapper, steps):
    return MultiStepLR(wrapper, milestones=[steps // EPOCH // 2], by_epoch=True)


def test_a_finished_run_with_twice_the_steps_follows_the_longer_cosine():
    runner = make([cosine], 8)
    train(runner, 0, 8)
    longer = make([cosine], 16)
    resume(longer, saved(runner, 8))
    rates = train(longer, 8, 16)
    assert rates == pytest.approx([RATE * (1 + math.cos(math.pi * step / 16)) / 2 for step in range(8, 16)], rel=1e-6)
    assert rates[0] == pytest.approx(0.05)
    (warning,) = longer.warnings
    assert 'end of the schedule 8 -> 16' in warning
    assert 'lr 0.0038' in warning
    assert '-> 0.05' in warning


@pytest.mark.parametrize(
    ('schedules', 'loop'),
    [
        ([cosine], StepBasedTrainLoop),
        ([poly], EpochBasedTrainLoop),
        ([warm_up, by_epochs], EpochBasedTrainLoop),
        ([warm_up, milestones], EpochBasedTrainLoop),
        ([by_epochs], StepBasedTrainLoop),
    ],
)
@pytest.mark.parametrize('groups', [1, 2])
def test_rates_from_there_on_are_those_of_the_config(schedules, loop, groups):
    short, long = (make(schedules, steps, loop, groups=groups) for steps in (8, 24))
    train(short, 0, 8)
    resumed = make(schedules, 24, loop, groups=groups)
    resume(resumed, saved(short, 8))
    train(long, 0, 8)
    assert train(resumed, 8, 24) == train(long, 8, 24)
    for first, second in zip(
        resumed.optim_wrapper.optimizer.param_groups, long.optim_wrapper.optimizer.param_groups, strict=True
    ):
        assert first['lr'] == second['lr']


@pytest.mark.parametrize('schedules', [[], [cosine], [warm_up, by_epochs]])
def test_where_nothing_has_changed_the_checkpoint_is_left_alone(schedules):
    runner = make(schedules, 16, EpochBasedTrainLoop)
    train(runner, 0, 8)
    checkpoint = saved(runner, 8)
    # As another machine may round it, or an earlier version have named it.
    checkpoint['optimizer']['param_groups'][0]['lr'] *= 1 + 1e-12
    del checkpoint['optimizer']['param_groups'][0]['foreach']
    before = copy.deepcopy(checkpoint)
    again = make(schedules, 16, EpochBasedTrainLoop)
    ResumedScheduleHook().after_load_checkpoint(again, checkpoint)
    assert again.warnings == []
    assert checkpoint['param_schedulers'] == before['param_schedulers']
    assert checkpoint['optimizer']['param_groups'] == before['optimizer']['param_groups']


def test_settings_of_the_optimiser_are_those_of_the_config_too():
    runner = make([cosine], 8)
    train(runner, 0, 4)
    changed = make([cosine], 8, lr=0.4, weight_decay=0.01)
    resume(changed, saved(runner, 4))
    assert train(changed, 4, 5) == pytest.approx([0.4 * (1 + math.cos(math.pi / 2)) / 2])
    assert changed.optim_wrapper.optimizer.param_groups[0]['weight_decay'] == 0.01
    (warning,) = changed.warnings
    assert 'lr 0.05 -> 0.2' in warning
    assert 'weight_decay 0 -> 0.01' in warning


@pytest.mark.parametrize(('before', 'now'), [([], [cosine]), ([cosine], []), ([poly], [cosine])])
def test_another_schedule(before, now):
    runner = make(before, 8)
    train(runner, 0, 4)
    changed = make(now, 8)
    resume(changed, saved(runner, 4))
    expected = RATE * (1 + math.cos(math.pi / 2)) / 2 if now else RATE
    assert train(changed, 4, 5) == pytest.approx([expected])
    assert 'another schedule' in changed.warnings[0]


def test_an_optimiser_that_does_not_fit():
    runner = make([cosine], 8)
    with pytest.raises(UserError, match=r'betas, .*SGD of the config has not'):
        ResumedScheduleHook().after_load_checkpoint(make([cosine], 8, optimizer=torch.optim.SGD), saved(runner, 0))
    with pytest.raises(UserError, match='has 1 groups of parameters, that of the config 2'):
        ResumedScheduleHook().after_load_checkpoint(make([cosine], 8, groups=2), saved(runner, 0))


def plateau(wrapper, steps, **settings):
    return ReduceOnPlateauLR(wrapper, **(dict(monitor='dice', end=steps, patience=0) | settings))


def halved():
    """A checkpoint after the scores have made the schedule halve the rate."""
    runner = make([partial(plateau, factor=0.5)], 8)
    for _ in range(3):
        runner.param_schedulers[0].step({'dice': 1.0})
    checkpoint = saved(runner, 4)
    assert checkpoint['optimizer']['param_groups'][0]['lr'] < RATE
    return checkpoint


def test_a_schedule_that_follows_the_scores_goes_on():
    runner = make([partial(plateau, factor=0.5)], 8)
    checkpoint = halved()
    resume(runner, checkpoint)
    assert runner.optim_wrapper.get_lr()['lr'][0] == checkpoint['optimizer']['param_groups'][0]['lr']
    assert runner.warnings == []


@pytest.mark.parametrize(
    ('schedule', 'steps', 'settings', 'said'),
    [
        ({}, 16, {}, 'end of the schedule 8 -> 16'),
        ({}, 8, {'lr': 0.4}, r'lr 0\.1 -> 0\.4'),
        ({}, 8, {'weight_decay': 0.01}, r'weight_decay 0 -> 0\.01'),
        ({'patience': 3}, 8, {}, 'patience of the schedule 0 -> 3'),
    ],
)
def test_a_schedule_that_follows_the_scores_refuses_other_settings(schedule, steps, settings, said):
    runner = make([partial(plateau, **({'factor': 0.5} | schedule))], steps, **settings)
    with pytest.raises(UserError, match=f'follows the scores.*{said}.*load_from=CHECKPOINT'):
        ResumedScheduleHook().after_load_checkpoint(runner, halved())


def several(steps, **settings):
    """Two optimisers, each with a cosine."""
    both = {'first': make([cosine], steps), 'second': make([cosine], steps, **settings)}
    runner = both['first']
    runner.optim_wrapper = OptimWrapperDict(**{name: one.optim_wrapper for name, one in both.items()})
    runner.param_schedulers = {name: one.param_schedulers for name, one in both.items()}
    return runner


def test_several_optimisers():
    before = several(8)
    for schedulers in before.param_schedulers.values():
        schedulers[0].step()
    states = {name: [one.state_dict() for one in each] for name, each in before.param_schedulers.items()}
    checkpoint = copy.deepcopy({'optimizer': before.optim_wrapper.state_dict(), 'param_schedulers': states})
    assert ResumedScheduleHook().after_load_checkpoint(several(8), checkpoint) is None
    for changed, said in ((several(8, lr=0.4), r'lr 0\.1 -> 0\.4'), (several(16), '8 -> 16')):
        with pytest.raises(UserError, match=f'one of several optimisers.*{said}.*load_from=CHECKPOINT'):
            ResumedScheduleHook().after_load_checkpoint(changed, checkpoint)
    del checkpoint['optimizer']['second']
    with pytest.raises(UserError, match='has 0 groups of parameters'):
        ResumedScheduleHook().after_load_checkpoint(several(8), checkpoint)


def test_weights_alone():
    runner = make([cosine], 8)
    with pytest.raises(UserError, match='holds weights alone'):
        ResumedScheduleHook().after_load_checkpoint(runner, {'meta': {'iter': 4, 'epoch': 1}})
    # To test a model needs no more.
    runner._resume = False
    assert ResumedScheduleHook().after_load_checkpoint(runner, {}) is None
