"""Training by a number of optimiser steps."""

from typing import Any

from mmengine.runner import IterBasedTrainLoop

from mmgfnuc.registry import LOOPS


@LOOPS.register_module()
class StepBasedTrainLoop(IterBasedTrainLoop):
    """MMEngine's iteration-based loop over the same dataloader config as the epoch-based one.

    It makes the dataloader's `SeededSampler` endless, so that a data config need not know how long it is trained on,
    and so that resuming skips what was already drawn without loading it.
    """

    def __init__(self, runner: Any, dataloader: Any, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, **kwargs)
        self.dataloader.sampler.infinite = True
