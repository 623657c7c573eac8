"""Ends a training that diverges."""

import math
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmgfnuc.errors import DivergedError, UserError
from mmgfnuc.models.weights import first_not_finite
from mmgfnuc.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """End a training whose loss is NaN or infinite for some steps in a row, and never save such weights.

    One such loss need not be the end: a loss scaler leaves out the step and halves its scale, which takes a few steps.
    Without a scaler the weights are lost at the first such step, and all later steps are wasted.

    With several processes all end at the same step: they exchange their state at every `patience`-th step, before the
    WholeCheckpointHook saves, and at the end. The loss is the one that the log has read.

    Args:
        patience: steps in a row.

    Raises:
        UserError: `patience` is below 1.
    """

    def __init__(self, patience: int = 5) -> None:
        if patience < 1:
            raise UserError(f'patience={patience} steps without a finite loss; give at least 1')
        self.patience = patience
        self.streak = 0
        self.first = 'in another process'

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Look at the loss of a step.

        Raises:
            DivergedError: it was not finite too often.
        """
        losses = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items() if 'loss' in name}
        self.streak = 0 if math.isfinite(losses.get('loss', 0.0)) else self.streak + 1
        if self.streak == 1:
            terms = ', '.join(f'{name} {float(value):g}' for name, value in losses.items())
            self.first = f'since step {runner.iter + 1} ({terms})'
        if get_world_size() > 1 and not self.every_n_train_iters(runner, self.patience):
            return
        if _most(self.streak) >= self.patience:
            raise self._diverged(runner, f'the loss is not finite {self.first}')

    def after_train(self, runner: Runner) -> None:
        """Refuse an end with such a loss.

        Raises:
            DivergedError: that of the last step was not finite.
        """
        if _most(self.streak):
            raise self._diverged(runner, f'the loss is not finite {self.first}')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save weights that are not finite, such as the averages of another hook.

        Raises:
            DivergedError: names the first tensor.
        """
        wrong = first_not_finite(checkpoint['state_dict'])
        if wrong:
            raise self._not_finite(runner, wrong)

    def check_weights(self, runner: Runner) -> None:
        """Refuse weights that are not finite, in all processes where they are so in one.

        Raises:
            DivergedError: names the first tensor.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        wrong = first_not_finite(model.state_dict())
        if _most(bool(wrong)):
            raise self._not_finite(runner, wrong or 'a weight in another process')

    def _not_finite(self, runner: Runner, wrong: str) -> DivergedError:
        loss = f', nor is the loss {self.first}' if self.streak else ''
        return self._diverged(runner, f'at step {runner.iter + 1} {wrong} is not finite{loss}')

    @staticmethod
    def _diverged(runner: Runner, what: str) -> DivergedError:
        # Of this run: the folder may hold those of another.
        last = runner.message_hub.runtime_info.get('last_ckpt')
        return DivergedError(
            f'training diverged: {what}; the last finite checkpoint is {last or "none: none was saved before"}; try a '
            'lower optim_wrapper.optimizer.lr, optim_wrapper.clip_grad.max_norm=1, or no --amp'
        )


def _most(value: int) -> int:
    """Largest value of all processes."""
    most = torch.tensor(int(value))
    all_reduce(most, 'max')
    return int(most)
