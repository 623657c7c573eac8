"""What a run shows on the screen, beside MMEngine's log."""

import math
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmgfnuc.engine.screen import show
from mmgfnuc.engine.summary import describe
from mmgfnuc.registry import HOOKS

# Lines of progress in a training, and the seconds after which there is one more.
LINES = 20
SILENCE = 300.0
# Seconds between two lines of a test.
TEST_SILENCE = 30.0
# Of the scores of a validation these come first; where a run has none of them, all of its scores are shown.
SCORES = {'dice': 'Dice', 'iou': 'IoU', 'aji': 'AJI', 'pq': 'PQ'}


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show what a run works on, how far it is, what its validations score, and where its last checkpoint lies.

    A training shows a line at the first and the last step, at every twentieth part between, and after five minutes
    without one; a test every half minute: a file of the output stays short.

    Args:
        parts: of the data that the run works on: `train`, `val`, `test`.
    """

    # After all that a step changes, and after the checkpoint is saved.
    priority = 'VERY_LOW'

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = parts
        self.begin = self.shown_step = 0
        self.shown_time = 0.0

    def before_train(self, runner: Runner) -> None:
        """Show what is trained on what."""
        show(runner.logger, describe(runner, *self.parts))
        self.begin = runner.iter
        self._shown(runner.iter)
        if runner.iter >= runner.max_iters:
            runner.logger.warning(
                f'nothing is left to train: the checkpoint is at step {runner.iter:,} and the config ends at step '
                f'{runner.max_iters:,}; for more steps raise train_cfg.max_iters, or max_epochs where it counts epochs'
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Show a step where a line is due: its number, the mean loss since the last line, the rate, the time left."""
        step, steps = runner.iter + 1, runner.max_iters
        if not self._is_due(step, steps):
            return
        values = {name: runner.message_hub.log_scalars.get(f'train/{name}') for name in ('loss', 'lr')}
        text = [f'step {step:{len(f"{steps:,}")},}/{steps:,}']
        if values['loss']:
            text.append(f'loss {values["loss"].mean(max(step - self.shown_step, 1)):.4f}')
        if values['lr']:
            text.append(f'learning rate {values["lr"].current():.1e}')
        left = runner.message_hub.get_info('eta')
        if left is not None:
            text.append(f'remaining {timedelta(seconds=round(left))}')
        show(runner.logger, '   '.join(text))
        self._shown(step)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Show the scores of a validation."""
        numbers = {name: value for name, value in (metrics or {}).items() if isinstance(value, int | float)}
        scores = {title: numbers[name] for name, title in SCORES.items() if name in numbers} or numbers
        text = [f'{name} {"none" if math.isnan(value) else f"{value:.3f}"}' for name, value in scores.items()]
        show(runner.logger, f'validation at step {runner.iter:,}: {"   ".join(text)}')

    def after_train(self, runner: Runner) -> None:
        """Show where the result is."""
        info = runner.message_hub.runtime_info
        path = info.get('last_ckpt')
        if path and Path(path).is_file():
            show(runner.logger, f'last checkpoint: {path}')
            for key in [key for key in info if key.startswith('best_ckpt')]:
                show(runner.logger, f'best checkpoint: {info[key]}')
        else:
            runner.logger.warning('no checkpoint was saved; give the config default_hooks.checkpoint')

    def before_test(self, runner: Runner) -> None:
        """Show what is tested on what."""
        show(runner.logger, describe(runner, *self.parts))
        self._shown(0)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """Show how far it is, where a line is due."""
        if time.monotonic() - self.shown_time >= TEST_SILENCE:
            show(runner.logger, f'{(batch_idx + 1) / len(runner.test_dataloader):.0%} of the images tested')
            self._shown(batch_idx + 1)

    def _is_due(self, step: int, steps: int) -> bool:
        # In whole numbers: which twentieth a step lies in.
        passed = step * LINES // steps > self.shown_step * LINES // steps
        first_or_last = step in (self.begin + 1, steps)
        return passed or first_or_last or time.monotonic() - self.shown_time >= SILENCE

    def _shown(self, step: int) -> None:
        self.shown_step, self.shown_time = step, time.monotonic()
