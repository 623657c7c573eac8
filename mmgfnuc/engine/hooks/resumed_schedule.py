"""A resumed run follows its config, also where this has changed."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmgfnuc.engine.resume import check_resumable
from mmgfnuc.errors import UserError
from mmgfnuc.registry import HOOKS

REMEDY = 'leave it as it was, or begin a new run from these weights: --cfg-options load_from=CHECKPOINT, no --resume'


@HOOKS.register_module()
class ResumedScheduleHook(Hook):
    """Where the schedule or the optimiser's settings are others than those of the checkpoint, take the config's.

    MMEngine restores both from the checkpoint, so that a run that is resumed with more steps would train them all with
    the last rate of the shorter schedule. Here the schedule of the config is computed anew up to the step of the
    checkpoint: from there on the rates are those of a run that had this config from the start. A warning says what has
    changed. Where nothing has, the checkpoint is left as it is, and the run goes on bit-equal.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the config before MMEngine restores it.

        Raises:
            UserError: the checkpoint lacks the state of the optimiser, or has that of another one; or a schedule that
                follows the scores has changed, which no step number tells.
        """
        # Weights alone, as for a test; or several optimisers, of which each has schedules of its own.
        if not runner._resume or isinstance(runner.param_schedulers, dict):
            return
        check_resumable(checkpoint)
        schedulers = runner.param_schedulers or []
        saved_states, saved_groups = checkpoint.get('param_schedulers', []), checkpoint['optimizer']['param_groups']
        optimizer = runner.optim_wrapper.optimizer
        _check_optimizer(optimizer, saved_groups)
        if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
            _check_length(schedulers, saved_states)
            return
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


def _check_length(schedulers: Sequence[Any], saved_states: Sequence[dict]) -> None:
    ends = [scheduler.end for scheduler in schedulers], [state['end'] for state in saved_states]
    if ends[0] != ends[1]:
        raise UserError(
            f'the schedule follows the scores of validations and ends at {ends[0]}, that of the checkpoint at '
            f'{ends[1]}: it cannot be computed for another length; leave train_cfg as it was, or train anew in another '
            '--work-dir'
        )


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
    if len(saved_states) != len(states) or any(a.keys() != b.keys() for a, b in zip(saved_states, states, strict=True)):
        return [f'another schedule (param_scheduler), {len(saved_states)} -> {len(states)} parts']
    found = []
    for saved, state in zip(saved_states, states, strict=True):
        differ = [key for key in state if not _same(saved[key], state[key])]
        # The other differences follow from those of the settings.
        settings = [key for key in differ if not key.startswith('_') and key not in ('last_step', 'base_values')]
        found += [f'{key} of the schedule {saved[key]} -> {state[key]}' for key in settings]
        if differ and not settings:
            found.append(f'{state["param_name"]} of the schedule')
    return found


def _optimizer_changes(saved_groups: Sequence[dict], groups: Sequence[dict]) -> list[str]:
    found: dict[str, str] = {}
    for saved, group in zip(saved_groups, groups, strict=True):
        for key in saved.keys() & group.keys():
            if not _same(saved[key], group[key]):
                found.setdefault(key, f'{key} {_text(saved[key])} -> {_text(group[key])}')
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
