"""Makes a resumed run equal to an uninterrupted one."""

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
        """Refuse a checkpoint from within an epoch: an epoch-based loop would start the epoch anew."""
        loop = runner.train_loop
        steps = len(loop.dataloader)
        if isinstance(loop, EpochBasedTrainLoop) and loop.iter != loop.epoch * steps:
            raise UserError(
                f'the checkpoint was saved at step {loop.iter}, within an epoch of {steps} steps; '
                'resume from one saved at the end of an epoch, or with the data and batch size it was saved with'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Reseed."""
        state = np.random.SeedSequence([runner.seed, runner.rank, runner.iter]).generate_state(1)[0]
        torch.manual_seed(int(state))
