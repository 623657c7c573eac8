"""Trackers of experiments beside MMEngine's own log: TensorBoard, Weights & Biases, MLflow and others."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.visualization import (
    AimVisBackend,
    ClearMLVisBackend,
    DVCLiveVisBackend,
    MLflowVisBackend,
    NeptuneVisBackend,
    WandbVisBackend,
)

from mmgfnuc.errors import UserError
from mmgfnuc.models.parts import class_of

# The package that each backend of MMEngine imports, which it does only when the run writes its first line.
PACKAGES = {
    AimVisBackend: 'aim',
    ClearMLVisBackend: 'clearml',
    DVCLiveVisBackend: 'dvclive',
    MLflowVisBackend: 'mlflow',
    NeptuneVisBackend: 'neptune',
    WandbVisBackend: 'wandb',
}


def check_trackers(visualizer: Any) -> None:
    """See to it, before anything is written, that the package of each tracker is there.

    Raises:
        UserError: one is not installed; says how to.
    """
    for place, backend in enumerate(_backends(visualizer)):
        package = PACKAGES.get(class_of(backend, VISBACKENDS))
        if package and not _is_installed(package):
            raise UserError(
                f'visualizer.vis_backends.{place}: {package} is not installed; pip install {package}, or leave it out'
            )


def _backends(visualizer: Any) -> list[Any]:
    found = visualizer.get('vis_backends') if isinstance(visualizer, Mapping) else None
    return [*found] if isinstance(found, list | tuple) else []


def _is_installed(package: str) -> bool:
    # A folder of that name, such as the one that wandb itself makes where a run is started, can be imported, too, and
    # a config wandb.py there.
    spec = find_spec(package)
    return spec is not None and spec.origin is not None and Path(spec.origin).parent != Path.cwd()


def add_tensorboard(cfg: Config) -> None:
    """Also log to TensorBoard, under the working folder, beside the trackers that the config has."""
    visualizer = cfg.get('visualizer') or dict(type='Visualizer')
    backends = _backends(visualizer) or [dict(type='LocalVisBackend')]
    cfg.visualizer = {**visualizer, 'vis_backends': [*backends, dict(type='TensorboardVisBackend')]}
