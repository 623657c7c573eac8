"""What a checkpoint says about itself, and what is checked when it is loaded."""

from importlib.metadata import version

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

import mmgfnuc
from mmgfnuc.inference.checkpoint import check_fit
from mmgfnuc.registry import HOOKS

PACKAGES = ('torch', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation', 'timm', 'segment-anything')


def versions() -> dict[str, str]:
    """Return the versions of this package and of those that shape a result."""
    return {'mmgfnuc': mmgfnuc.__version__, **{name: version(name) for name in PACKAGES}}


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Write the versions into every checkpoint; refuse to load one that does not fit the model.

    MMEngine itself adds config, seed, class names and the data set's mpp, and would load a checkpoint of another
    model with no more than a warning.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the versions."""
        checkpoint['meta']['versions'] = versions()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare keys and shapes before anything is loaded."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_fit(model.state_dict(), checkpoint['state_dict'])
