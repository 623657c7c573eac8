"""Continuing a run from its last checkpoint."""

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmgfnuc.inference.checkpoint import read_checkpoint

from .config import set_seed


def find_resume(cfg: Config, resume: str | None) -> None:
    """Set a config to continue a run with the run's own seed, from a path or, with `auto`, the last checkpoint.

    Where the working folder has no checkpoint yet, `auto` begins a new run.

    Raises:
        UserError: the checkpoint is missing or damaged.
    """
    if resume is None:
        return
    cfg.resume = True
    cfg.load_from = find_latest_checkpoint(cfg.work_dir) if resume == 'auto' else resume
    if cfg.load_from:
        # MMEngine takes the seed over too late for the order of the samples and their augmentation.
        set_seed(cfg, read_checkpoint(cfg.load_from)['meta']['seed'])
