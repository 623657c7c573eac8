"""What a checkpoint says about itself, and what is checked when it is loaded."""

import time

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmgfnuc.engine.provenance import commit, hardware, versions
from mmgfnuc.inference.checkpoint import check_fit
from mmgfnuc.registry import HOOKS


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Write into every checkpoint where it comes from; refuse to load one that does not fit the model.

    Written are the versions, the hardware, the commit, and the seconds of training (those before a resume included).
    MMEngine itself adds config, seed, class names and the data set's mpp, and would load a checkpoint of another
    model with no more than a warning.
    """

    def __init__(self) -> None:
        self.seconds_before = 0.0
        self.start = 0.0
        self.provenance: dict = {}

    def before_train(self, runner: Runner) -> None:
        """Start the clock; note what runs now, as the files may be changed before a checkpoint is saved."""
        self.start = time.monotonic()
        self.provenance = dict(versions=versions(), hardware=hardware(), commit=commit())

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add where it comes from."""
        seconds = self.seconds_before + time.monotonic() - self.start
        checkpoint['meta'].update(self.provenance, train_seconds=seconds)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare keys and shapes before anything is loaded."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_fit(model.state_dict(), checkpoint['state_dict'])
        self.seconds_before = checkpoint['meta'].get('train_seconds', 0.0)
