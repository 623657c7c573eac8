"""Reading trained checkpoints, and checking that they fit the model they are loaded into."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner.checkpoint import _load_checkpoint

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation.locate import RANDOM
from mmgfnuc.models.layers import describe_mismatch

META_KEYS = ('cfg', 'seed', 'iter', 'dataset_meta', 'versions')


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of `tools/train.py` on the CPU.

    The file is a pickle: open only checkpoints whose origin you trust.

    Raises:
        UserError: there is no such file, it is damaged, or it is something else.
    """
    if not Path(path).is_file():
        raise UserError(f"checkpoint '{path}' is not there; give the .pth file that tools/train.py wrote")
    try:
        checkpoint = _load_checkpoint(str(path), map_location='cpu', logger='silent')
    except Exception as error:  # a damaged file fails in zipfile, pickle or torch, each with its own types
        raise UserError(f"checkpoint '{path}' cannot be read ({type(error).__name__}); copy it again") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"'{path}' is no checkpoint of tools/train.py: it holds a {type(checkpoint).__name__}")
    missing = [key for key in ('state_dict', 'meta') if key not in checkpoint]
    missing += [f'meta.{key}' for key in META_KEYS if key not in checkpoint.get('meta', {})]
    if missing:
        raise UserError(f"'{path}' is no whole checkpoint of tools/train.py: it lacks {', '.join(missing)}")
    return checkpoint


def carried_config(checkpoint: Mapping[str, Any], path: str | Path) -> Config:
    """Read the config that a checkpoint carries.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return Config.fromstring(checkpoint['meta']['cfg'], file_format='.py')
    except Exception as error:  # whatever the text is
        raise UserError(f"checkpoint '{path}' carries no config that can be read ({type(error).__name__})") from error


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
