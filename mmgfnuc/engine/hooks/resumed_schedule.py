"""A resumed run follows its config, even if it has changed."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmgfnuc.engine.resume import check_resumable
from mmgfnuc.errors import UserError
from mmgfnuc.registry import HOOKS

REMEDY = 'leave it as it was, or begin a new run from these weights: --cfg-options load_from=CHECKPOINT, no --resume'

# Of the state of a schedule, what its steps change.
PROGRESS = ('last_step', 'base_values', 'best', 'num_bad_epochs', 'cooldown_counter')


@HOOKS.register_module()
class ResumedScheduleHook(Hook):
    """Where the schedule or the optimiser's settings differ from those of the checkpoint, take the config's.

    MMEngine restores both from the checkpoint, so that a run that is resumed with more steps would train them all with
    the last rate of the shorter schedule. Here the schedule of the config is computed anew up to the step of the
    checkpoint: from there on the rates are those of a run that had this config from the start. A warning says what has
    changed. Where nothing has, the checkpoint is left as it is, and the run goes on bit-equal.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the config before MMEngine restores it.

        Raises:
            UserError: the checkpoint lacks the state of the optimiser, or has that of another one; or settings have
                changed of a schedule that follows the scores, which no step number tells, or of one of several
                optimisers.
        """
        if not runner._resume:  # weights alone, as for a test
            return
        check_resumable(checkpoint)
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            _check_several(runner, checkpoint)
            return
        schedulers = runner.param_schedulers or []
        saved_states, saved_groups = checkpoint.get('param_schedulers', []), _groups(checkpoint['optimizer'])
        optimizer = runner.optim_wrapper.optimizer
        if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
            why = 'the schedule follows the scores of validations'
            _refuse_changes(why, optimizer, saved_groups, schedulers, saved_states)
            return
        _check_optimizer(optimizer, saved_groups)
        _replay(runner, schedulers, checkpoint['meta'])
        states = [scheduler.state_dict() for scheduler in schedulers]
        groups = [{key: value for key, value in group.items() if key != 'params'} for group in optimizer.param_groups]
        changes = [*_schedule_changes(saved_states, states), *_optimizer_changes(saved_groups, groups)]
        if not changes:
            return
        checkpoint['param_schedulers'] = states
        for saved, group in zip(saved_groups, groups, strict=True):
            saved.update(group)
        # The rate that MMEngine logs.
        if 'base_param_settings' in checkpoint['optimizer']:
            checkpoint['optimizer']['base_param_settings'] = runner.optim_wrapper.base_param_settings
        step = checkpoint['meta']['iter']
        runner.logger.warning(
            f'schedule and optimiser are now those of the config, not those up to step {step:,}: {", ".join(changes)}. '
            f'The run is not one of {runner.max_iters:,} steps with this config from the start; for that train anew, '
            'in another --work-dir'
        )


def _check_several(runner: Runner, checkpoint: dict) -> None:
    schedulers, saved_states = runner.param_schedulers or {}, checkpoint.get('param_schedulers') or {}
    for name, wrapper in runner.optim_wrapper.items():
        _refuse_changes(
            f"'{name}' is one of several optimisers",
            wrapper.optimizer,
            _groups(checkpoint['optimizer'].get(name, {})),
            schedulers.get(name, []),
            saved_states.get(name, []) if isinstance(saved_states, dict) else [],
        )


def _groups(saved_optimizer: dict) -> list[dict]:
    return saved_optimizer.get('param_groups', [])


def _check_optimizer(optimizer: Any, saved_groups: Sequence[dict]) -> None:
    if len(optimizer.param_groups) != len(saved_groups):
        raise UserError(
            f'the optimiser of the checkpoint has {len(saved_groups)} groups of parameters, that of the config '
            f'{len(optimizer.param_groups)} (optim_wrapper.paramwise_cfg); {REMEDY}'
        )
    unknown = {key for key in saved_groups[0] if not key.startswith('initial_')} - set(optimizer.param_groups[0])
    if unknown:
        raise UserError(
            f'the optimiser of the checkpoint has {", ".join(sorted(unknown))}, which {type(optimizer).__name__} of '
            f'the config has not; {REMEDY}'
        )


def _refuse_changes(
    why: str, optimizer: Any, saved_groups: Sequence[dict], schedulers: Sequence[Any], saved_states: Sequence[dict]
) -> None:
    """Refuse other settings where the schedule cannot be computed for them; the values that follow it may differ."""
    _check_optimizer(optimizer, saved_groups)
    states = [scheduler.state_dict() for scheduler in schedulers]
    groups = [
        {key: value for key, value in group.items() if key != 'params' and f'initial_{key}' not in group}
        for group in optimizer.param_groups
    ]
    changes = _optimizer_changes(saved_groups, groups)
    if _are_alike(saved_states, states):
        for saved, state in zip(saved_states, states, strict=True):
            changes += _setting_changes(saved, state)
    else:
        changes.append(_another_schedule(saved_states, states))
    if changes:
        raise UserError(f'{why}, so that it cannot go on with other settings ({", ".join(changes)}); {REMEDY}')


def _replay(runner: Runner, schedulers: Sequence[Any], meta: dict) -> None:
    """Bring freshly built schedules to the step of a checkpoint, by the steps that a run takes."""
    loop, length = runner.train_loop, len(runner.train_dataloader)
    # A loop by steps makes no step of schedules by epochs, see ParamSchedulerHook.
    epochs = meta['epoch'] if isinstance(loop, EpochBasedTrainLoop) else 0
    with warnings.catch_warnings():
        # The optimiser has made no step in this process.
        warnings.filterwarnings('ignore', message='Detected call of `scheduler.step')
        for step in range(1, meta['iter'] + 1):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
            if step % length == 0 and step // length <= epochs:
                for scheduler in schedulers:
                    if scheduler.by_epoch:
                        scheduler.step()


def _schedule_changes(saved_states: Sequence[dict], states: Sequence[dict]) -> list[str]:
    if not _are_alike(saved_states, states):
        return [_another_schedule(saved_states, states)]
    found = []
    for saved, state in zip(saved_states, states, strict=True):
        # The other differences follow from those of the settings.
        settings = _setting_changes(saved, state)
        found += settings
        if not settings and not all(_same(saved[key], state[key]) for key in state):
            found.append(f'{state["param_name"]} of the schedule')
    return found


def _are_alike(saved_states: Sequence[dict], states: Sequence[dict]) -> bool:
    return [state.keys() for state in saved_states] == [state.keys() for state in states]


def _another_schedule(saved_states: Sequence[dict], states: Sequence[dict]) -> str:
    return f'another schedule (param_scheduler), {len(saved_states)} -> {len(states)} parts'


def _setting_changes(saved: dict, state: dict) -> list[str]:
    return [
        f'{key} of the schedule {saved[key]} -> {state[key]}'
        for key in state
        if not key.startswith('_') and key not in PROGRESS and not _same(saved[key], state[key])
    ]


def _optimizer_changes(saved_groups: Sequence[dict], groups: Sequence[dict]) -> list[str]:
    found: dict[str, str] = {}
    for saved, group in zip(saved_groups, groups, strict=True):
        for key in saved.keys() & group.keys():
            if not _same(saved[key], group[key]):
                found.setdefault(key, f'{key.removeprefix("initial_")} {_text(saved[key])} -> {_text(group[key])}')
    return [found[key] for key in sorted(found)]


def _same(first: Any, second: Any) -> bool:
    """Compare settings; numbers to what another machine may round otherwise."""
    if isinstance(first, float | int) and isinstance(second, float | int):
        return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-15)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


def _text(value: Any) -> str:
    return f'{value:.3g}' if isinstance(value, float) else str(value)
