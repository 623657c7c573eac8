"""Ends a training whose validations no longer improve."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmgfnuc.engine.screen import show
from mmgfnuc.errors import UserError
from mmgfnuc.registry import HOOKS

from .scores import better_is, check_given

STATE = 'early_stop'


@HOOKS.register_module()
class EarlyStopHook(Hook):
    """End a training after some validations in a row without a better score; one line says so.

    WholeCheckpointHook saves the step at which it ends. What the hook has seen is part of every checkpoint: a run that
    is resumed ends where it would have ended.

    MMEngine's EarlyStoppingHook, in whose place this stands, forgets what it has seen, and needs the training data
    for a test.

    Args:
        monitor: score of the validations, such as `dice`, `aji` or `pq`.
        patience: validations in a row.
        min_delta: by how much a score must be better to count as such.
        rule: which score is better, `greater` or `less`; not needed for those of this package.

    Raises:
        UserError: a setting is out of range, `rule` is needed, or the validations do not give the score.
    """

    # After the validation has changed what it changes, before the checkpoint is saved.
    priority = 'LOW'

    def __init__(
        self,
        monitor: str,
        patience: int = 5,
        min_delta: float = 0.0,
        rule: Literal['greater', 'less'] | None = None,
    ) -> None:
        if patience < 1 or min_delta < 0:
            raise UserError(f'patience={patience}, min_delta={min_delta}: give at least 1, and at least 0')
        rule = rule or better_is(monitor)
        if rule is None:
            raise UserError(f"monitor='{monitor}': which is better is not known; give rule='greater' or rule='less'")
        self.monitor = monitor
        self.followed = (monitor,)
        self.patience = patience
        self.min_delta = min_delta
        self.sign = 1 if rule == 'greater' else -1
        self.best = -self.sign * math.inf
        self.waited = 0
        self.ends = False

    def before_train(self, runner: Runner) -> None:
        """Take up what was seen before a run was resumed; one that had ended stays so.

        Raises:
            UserError: the checkpoint is damaged.
        """
        match runner.message_hub.runtime_info.get(self._key):
            case None:
                return
            case [int() | float() as best, int() as waited]:
                self.best, self.waited = best, waited
            case other:
                raise UserError(f'the checkpoint holds {self._key}={other!r:.60}: it is damaged; take another one')
        if self.waited >= self.patience:
            runner.train_loop.stop_training = True
            runner.logger.warning(f'nothing is left to train: {self._reason()}; for more steps raise patience')

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, Any] | None = None) -> None:
        """Compare the score with the best one so far."""
        metrics = metrics or {}
        check_given(self, self.followed, metrics)
        # NaN, where nothing could be scored, is not better.
        if self.sign * (metrics[self.monitor] - self.best) > self.min_delta:
            self.best, self.waited = float(metrics[self.monitor]), 0
        else:
            self.waited += 1
        runner.message_hub.update_info(self._key, [self.best, self.waited])
        if self.waited >= self.patience and runner.iter < runner.max_iters:
            runner.train_loop.stop_training = self.ends = True

    def after_train(self, runner: Runner) -> None:
        """Say why a training ended."""
        if self.ends:
            show(runner.logger, f'the training ends early, at step {runner.iter:,}: {self._reason()}')

    @property
    def _key(self) -> str:
        return f'{STATE}_{self.monitor}'

    def _reason(self) -> str:
        return f'{self.monitor} has not been better than {self.best:.4f} in the last {self.waited} validations'
