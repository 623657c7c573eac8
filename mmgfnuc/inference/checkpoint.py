"""Reading trained checkpoints, and checking that they fit the model they are loaded into."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation.locate import RANDOM
from mmgfnuc.models.layers import describe_mismatch, first_not_finite
from mmgfnuc.models.layers.torch_files import read_torch_file, reason_of

from .dumped_config import read_dumped
from .history import ALLOWED

META_KEYS = ('cfg', 'seed', 'iter', 'dataset_meta', 'versions')


def load_checkpoint(path: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint of MMEngine as data: nothing in it is run.

    Raises:
        UserError: there is no such file, it is damaged, holds more than data, or has weights that are not finite.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint '{path}' is not there; give the .pth file that tools/train.py wrote")
    try:
        checkpoint = read_torch_file(path, map_location, ALLOWED)
        weights = _weights(checkpoint)
        wrong = first_not_finite(weights or {})
    except Exception as error:  # a damaged file fails in zipfile, pickle or torch, each with its own types
        raise UserError(f"checkpoint '{path}' cannot be read ({reason_of(error)}); copy it again") from error
    if weights is None:
        held = 'parts of the wrong types' if isinstance(checkpoint, dict) else f'a {type(checkpoint).__name__}'
        raise UserError(f"'{path}' is no checkpoint of tools/train.py: it holds {held}")
    if wrong:
        raise UserError(
            f"checkpoint '{path}': {wrong} holds NaN or infinity: the file is damaged, or its training diverged; take "
            'an earlier one, or train again'
        )
    # MMEngine runs it as Python when it resumes; our checkpoints have none.
    checkpoint.get('meta', {}).pop('config', None)
    return checkpoint


def _weights(checkpoint: Any) -> dict[str, Any] | None:
    """State dict of a checkpoint, which may be no more than that; None where its parts have the wrong types."""
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('meta', {}), dict):
        return None
    weights = checkpoint.get('state_dict', {})
    tensors = isinstance(weights, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    )
    return (weights or checkpoint) if tensors else None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a whole checkpoint of `tools/train.py` on the CPU.

    Raises:
        UserError: it is none; see `load_checkpoint`.
    """
    checkpoint = load_checkpoint(path)
    missing = [key for key in ('state_dict', 'meta') if key not in checkpoint]
    missing += [f'meta.{key}' for key in META_KEYS if key not in checkpoint.get('meta', {})]
    if missing:
        raise UserError(f"'{path}' is no whole checkpoint of tools/train.py: it lacks {', '.join(missing)}")
    return checkpoint


def carried_config(checkpoint: Mapping[str, Any], path: str | Path) -> Config:
    """Read the config that a checkpoint carries, as data.

    Raises:
        UserError: it holds code; see `read_dumped`.
    """
    return read_dumped(checkpoint['meta']['cfg'], f"checkpoint '{path}'")


@contextmanager
def weights_from_checkpoint(config: Config) -> Iterator[None]:
    """Let an encoder that was tuned in full be built without its weight file: the checkpoint brings all of it."""
    foundation = config.model.get('foundation')
    if not foundation or foundation.get('tune') != 'full':
        yield
        return
    foundation.weights = RANDOM
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.* has RANDOM weights')
        yield


def check_fit(own: dict, saved: dict) -> None:
    """Compare keys and shapes of a model's own state dict with those of a saved one.

    Raises:
        UserError: names the first keys that differ.
    """
    mismatch = describe_mismatch(own, saved)
    if mismatch:
        raise UserError(
            f'the checkpoint does not fit the model: it {mismatch}. Give the config, and the version of this package, '
            'that it was trained with'
        )


def check_classes(num_classes: int, classes: Sequence[str]) -> None:
    """Compare the classes of a head with those of its data.

    Raises:
        UserError: names both.
    """
    if num_classes != len(classes):
        raise UserError(
            f'the head has num_classes={num_classes}, the data set {len(classes)} classes ({", ".join(classes)}); set '
            'model.decode_head.num_classes, and types=True in the datasets where types are told apart'
        )
