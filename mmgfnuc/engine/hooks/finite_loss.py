"""Ends a training that diverges."""

import math
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmgfnuc.errors import DivergedError
from mmgfnuc.models.layers import first_not_finite
from mmgfnuc.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """End a training whose loss is NaN or infinite for some steps in a row, and never save weights that are.

    One such loss need not be the end: a loss scaler leaves out the step and halves its scale, which takes a few steps.
    Without a scaler the weights are lost with the first, and no step after it is worth its time.

    Of several processes all end at the same step: at every `patience`-th they ask each other. Read is the loss that the
    log has read before.

    Args:
        patience: steps in a row.
    """

    def __init__(self, patience: int = 5) -> None:
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
        longest = torch.tensor(self.streak)
        all_reduce(longest, 'max')
        if longest >= self.patience:
            raise self._diverged(runner, f'the loss is not finite {self.first}')

    def after_train(self, runner: Runner) -> None:
        """Refuse an end with such a loss.

        Raises:
            DivergedError: that of the last step was not finite.
        """
        if self.streak:
            raise self._diverged(runner, f'the loss is not finite {self.first}')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save weights that are not finite.

        Raises:
            DivergedError: names the first tensor.
        """
        wrong = first_not_finite(checkpoint['state_dict'])
        if wrong:
            loss = f', nor is the loss {self.first}' if self.streak else ''
            raise self._diverged(runner, f'at step {runner.iter + 1} {wrong} is not finite{loss}')

    @staticmethod
    def _diverged(runner: Runner, what: str) -> DivergedError:
        noted = Path(runner.work_dir) / 'last_checkpoint'
        last = noted.read_text(encoding='utf-8').strip() if noted.is_file() else ''
        return DivergedError(
            f'training diverged: {what}; the last finite checkpoint is {last or "none: none was saved before"}; try a '
            'lower optim_wrapper.optimizer.lr, optim_wrapper.clip_grad.max_norm=1, or no --amp'
        )
