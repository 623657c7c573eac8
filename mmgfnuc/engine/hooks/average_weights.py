"""Averages of the weights of a training, by which it is validated, tested and used."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.weights import describe_mismatch, first_not_finite
from mmgfnuc.registry import HOOKS

# Of a checkpoint: the number of averaged steps, and the weights that the training goes on with.
AVERAGE = 'average'


@HOOKS.register_module()
class AverageWeightsHook(Hook):
    """Keep an exponential moving average of what is trained; it is what validations, checkpoints and predictions use.

    After optimiser step t, t = 1, 2, ...,
    `average = d * average + (1 - d) * weights`, `d = min(decay, (1 + t) / (10 + t))`,
    from the weights before the first step: early on d is small, so that a short training is not ruled by those. With
    accumulated gradients a step is one of the optimiser, not of the loop. Statistics of batch norms are averaged alike.
    A frozen foundation encoder is neither copied nor averaged.

    `state_dict` of a checkpoint holds the average. A run that is resumed goes on with the weights that it had, and ends
    bit-equal to an uninterrupted one.

    MMEngine's EMAHook, in whose place this stands, copies the whole model, a frozen encoder too.

    Args:
        decay: least share of the former average; 0.999 averages over the last 1,000 steps or so.

    Raises:
        UserError: `decay` is not between 0 and 1; a run is resumed from averages that are damaged or do not fit.

    Source: Polyak and Juditsky 1992, doi:10.1137/0330046; the rule for d is TensorFlow's ExponentialMovingAverage.
    """

    # Before the hooks that share the statistics of batch norms, look at the weights and save them.
    priority = 'HIGH'

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise UserError(f'decay={decay}: give a number between 0 and 1; 0.999 is usual')
        self.decay = decay
        self.steps = 0
        self.average: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        """Begin with the weights as they are, unless a run goes on."""
        self.average = self.average or {key: value.clone() for key, value in _trained(runner.model).items()}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Average, where the optimiser has made a step."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapper) and not wrapper.should_update():
            return
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in _trained(runner.model).items():
            self.average[key].lerp_(value, 1 - decay)

    def before_val(self, runner: Runner) -> None:
        """Give the model the average."""
        self._swap(runner.model)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Give the model its weights back, before anything is saved."""
        self._swap(runner.model)

    def _swap(self, model: Any) -> None:
        for key, value in _trained(model).items():
            weights = value.clone()
            value.copy_(self.average[key])
            self.average[key].copy_(weights)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the average in the place of the weights; keep these where the run may go on."""
        state = checkpoint['state_dict']
        if 'optimizer' in checkpoint:
            checkpoint[AVERAGE] = {'steps': self.steps, 'weights': {key: state[key] for key in self.average}}
        state.update({key: value.cpu() for key, value in self.average.items()})

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take both up again where a run goes on."""
        if not runner._resume:
            return
        if AVERAGE not in checkpoint:
            runner.logger.warning(
                'the checkpoint holds no averages of weights: they begin with its weights, as AverageWeightsHook was '
                'not in the config that it was trained with'
            )
            return
        own, state = _trained(runner.model), checkpoint['state_dict']
        weights, self.steps = _checked(checkpoint[AVERAGE], own)
        self.average = {key: state[key].to(own[key]).clone() for key in own}
        state.update(weights)


def _trained(model: Any) -> dict[str, Tensor]:
    """Parameters that are trained, and buffers of real numbers, as far as a checkpoint holds them."""
    module = model.module if is_model_wrapper(model) else model
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {
        name: value
        for name, value in module.state_dict().items()
        if name not in frozen and torch.is_floating_point(value)
    }


def _checked(saved: Any, own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Weights and number of steps of a checkpoint, which may come from anywhere."""
    match saved:
        case {'steps': int() as steps, 'weights': dict() as weights} if steps >= 0 and all(
            isinstance(value, Tensor) for value in weights.values()
        ):
            wrong = first_not_finite(weights)
            fault = f'{wrong} holds NaN or infinity' if wrong else describe_mismatch(dict(own), weights)
        case _:
            fault = 'they are none'
    if fault:
        raise UserError(f'the averaged weights of the checkpoint do not fit the model: {fault}; take another one')
    return weights, steps


def refuse_averages(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """Refuse to go on from averages as if they were the weights of the training.

    Raises:
        UserError: the run is resumed without the hook that it had.
    """
    if AVERAGE not in checkpoint or not runner._resume:
        return
    if not any(isinstance(hook, AverageWeightsHook) for hook in runner.hooks):
        raise UserError(
            'the weights of the checkpoint are averages, and the config has no AverageWeightsHook to go on with; give '
            'it back to custom_hooks, or begin a new run from these weights: --cfg-options load_from=CHECKPOINT, no '
            '--resume'
        )
