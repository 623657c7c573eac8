"""One model for all processes when it is validated."""

from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmgfnuc.registry import HOOKS


@HOOKS.register_module()
class BroadcastBuffersHook(Hook):
    """Before validation, give every process the batch-norm statistics of the first.

    Each process gathers its own while training, and the first one's are saved: so the validation scores are those
    of the checkpoint. A single process does nothing.
    """

    def before_val(self, runner: Runner) -> None:
        """Broadcast all buffers."""
        for buffer in runner.model.buffers():
            broadcast(buffer)
