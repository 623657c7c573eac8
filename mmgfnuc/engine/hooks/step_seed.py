"""Makes a resumed run equal to an uninterrupted one."""

from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmgfnuc.errors import UserError
from mmgfnuc.registry import HOOKS


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Reseed PyTorch before every training step from (seed, process, step).

    MMEngine saves no random state. With this hook none is needed: dropout depends on the step alone, as augmentation
    depends on (seed, epoch, index) alone, so that resuming from any checkpoint continues the very same run.
    """

    def before_train(self, runner: Runner) -> None:
        """Refuse an epoch without a step, and a checkpoint from within an epoch, which the loop would start anew."""
        loop = runner.train_loop
        steps = count_steps(loop.dataloader)
        if isinstance(loop, EpochBasedTrainLoop) and loop.iter != loop.epoch * steps:
            raise UserError(
                f'the checkpoint was saved at step {loop.iter}, within an epoch of {steps} steps; '
                'resume from one saved at the end of an epoch, or with the data and batch size it was saved with'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Reseed."""
        state = np.random.SeedSequence([runner.seed, runner.rank, runner.iter]).generate_state(1)[0]
        torch.manual_seed(int(state))


def count_steps(loader: Any) -> int:
    """Steps of an epoch of training.

    Raises:
        UserError: an epoch has none.
    """
    if len(loader) == 0:
        raise UserError(
            f'{len(loader.sampler)} training images for each process are fewer than a batch of {loader.batch_size}: '
            'nothing would be learnt; set train_dataloader.batch_size lower'
        )
    return len(loader)
