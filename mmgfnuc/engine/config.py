"""The config of a run: read from a file, changed by the options of a command line."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import carried_config, read_checkpoint

from .distributed import prepare_distributed

LAUNCHERS = ('none', 'pytorch', 'slurm')
CHECKPOINT_SUFFIX = '.pth'


def load_config(path: str, options: dict[str, Any] | None = None, work_dir: str | None = None) -> Config:
    """Read a config, apply `--cfg-options`, and settle its working folder (default `work_dirs/<config name>`).

    A checkpoint (.pth) in place of a file gives the config that it was trained with; its working folder is by default
    the one that it lies in.

    Raises:
        UserError: the file does not exist or is no valid config, or an option does not fit it.
    """
    if not Path(path).is_file():
        raise UserError(f"config '{path}' is not there; give the path of a .py file, such as one of configs/")
    try:
        cfg = _config_of_checkpoint(path) if Path(path).suffix == CHECKPOINT_SUFFIX else Config.fromfile(path)
        cfg.merge_from_dict(options or {})
    except UserError:
        raise
    except Exception as error:  # a config is Python: it fails in any way that Python does
        raise UserError(f"config '{path}' cannot be used: {type(error).__name__}: {error}") from error
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{Path(path).stem}'
    return cfg


def _config_of_checkpoint(path: str) -> Config:
    # Without the name of a file: there is none.
    cfg = Config(carried_config(read_checkpoint(path), path).to_dict())
    cfg.work_dir = str(Path(path).parent)
    return cfg


def set_seed(cfg: Config, seed: int | None) -> None:
    """Use one seed for the weights, the order of the samples and their augmentation; None keeps the config's."""
    if seed is not None:
        cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    cfg.train_dataloader.dataset.seed = cfg.get('randomness', {}).get('seed') or 0


def set_launcher(cfg: Config, launcher: str) -> None:
    """Choose how the processes were started: `none`, `pytorch` (torchrun) or `slurm` (srun)."""
    cfg.launcher = launcher
    if launcher != 'none':
        prepare_distributed(cfg)


def add_tensorboard(cfg: Config) -> None:
    """Also log to TensorBoard, under the working folder."""
    cfg.visualizer = dict(
        type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    )


def use_bfloat16(cfg: Config) -> None:
    """Train under bfloat16 autocast."""
    # By name: the config goes into the checkpoint as text, and a class set here would not be readable there.
    cfg.optim_wrapper.type = 'mmgfnuc.BFloat16OptimWrapper'
