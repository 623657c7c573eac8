"""Reading trained checkpoints, and checking that they fit the model they are loaded into."""

import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones import TimmBackbone
from mmgfnuc.models.foundation import entry_of_config
from mmgfnuc.models.foundation.base import weights_are_meant
from mmgfnuc.models.layers.building import is_part_of
from mmgfnuc.models.weights import describe_mismatch, first_not_finite
from mmgfnuc.models.weights.torch_files import read_torch_file, reason_of

from .dumped_config import read_dumped

# What the `meta` of a checkpoint holds, and of which types; the epoch where its run can go on.
META_KEYS = {'cfg': str, 'seed': int, 'iter': int, 'dataset_meta': dict, 'preprocessing': dict, 'versions': dict}
EPOCH = 'epoch'
TRAIN_SECONDS = 'train_seconds'
# Schedules are brought to the step of a checkpoint one by one: more would seem to take for ever.
MOST_STEPS = 10**7
HUB_PARTS = ('log_scalars', 'runtime_info', 'resumed_keys')
# Of `runtime_info`: files that are kept, and those to delete.
LISTS = ('keep_ckpt_ids', 'outdated_ckpts')
# Types of numbers in arrays, and methods that a curve of the log may name.
NUMBERS = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'b1')
METHODS = ('min', 'max', 'current', 'mean')


class _DType:
    """The type of an array: one of NumPy's own numbers, whatever else its state says."""

    def __init__(self, name: str, *_: Any) -> None:
        if name not in NUMBERS:
            raise ValueError(f'an array of {name!r}, which is not a type of numbers')
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array of numbers, as NumPy pickles it."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, _, content = state
        if math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise ValueError(f'an array of shape {shape} in {len(content)} bytes')
        self.values = np.frombuffer(content, dtype.dtype).reshape(shape).copy()


class _History(HistoryBuffer):
    """A curve of the log; what it can be asked is this process's own, not what the file says."""

    def __setstate__(self, state: dict) -> None:
        self.__class__ = HistoryBuffer  # type: ignore[assignment] # to be saved again under that name
        logs, counts = state['_log_history'].values, state['_count_history'].values
        self.__dict__.update(max_length=int(state['max_length']), _log_history=logs, _count_history=counts)
        self._set_default_statistics()


def _new_array(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: _DType, content: bytes) -> Any:
    (value,) = np.frombuffer(content, dtype.dtype)
    return value


def _method(cls: Any, name: str) -> str:
    """Stands for a method of the class of a curve."""
    if cls is not _History or name not in METHODS:
        raise pickle.UnpicklingError('GLOBAL getattr')
    return name


# What MMEngine's checkpoints hold besides tensors, curves of the log, is rebuilt by readers of our own: what takes the
# place of an object, and its name in a file; NumPy 1 had another for its core.
ALLOWED = [
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_method, 'builtins.getattr'),
    (_Array, 'numpy.ndarray'),
    (_DType, 'numpy.dtype'),
    *((_new_array, f'numpy.{core}.multiarray._reconstruct') for core in ('_core', 'core')),
    *((_scalar, f'numpy.{core}.multiarray.scalar') for core in ('_core', 'core')),
]


def load_checkpoint(path: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint of MMEngine as data: nothing in it is run.

    Raises:
        UserError: there is no such file, it is damaged, holds more than data, or has weights that are not finite.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint '{path}' is not there; give the .pth file that mmgfnuc train wrote")
    try:
        checkpoint = read_torch_file(path, map_location, ALLOWED)
        weights = _weights(checkpoint)
        wrong = first_not_finite(weights or {})
    except Exception as error:  # a damaged file fails in zipfile, pickle or torch, each with its own types
        raise UserError(f"checkpoint '{path}' cannot be read ({reason_of(error)}); copy it again") from error
    if weights is None:
        held = 'parts of the wrong types' if isinstance(checkpoint, dict) else f'a {type(checkpoint).__name__}'
        raise UserError(f"'{path}' is not a checkpoint of mmgfnuc train: it holds {held}")
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
    """Read a whole checkpoint of `mmgfnuc train` on the CPU.

    Raises:
        UserError: it is none; see `load_checkpoint`.
    """
    checkpoint = load_checkpoint(path)
    missing = [key for key in ('state_dict', 'meta') if key not in checkpoint]
    missing += [f'meta.{key}' for key in META_KEYS if key not in checkpoint.get('meta', {})]
    if missing:
        raise UserError(f"'{path}' is not a whole checkpoint of mmgfnuc train: it lacks {', '.join(missing)}")
    check_state(checkpoint, path)
    return checkpoint


def check_state(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Check the types of what a checkpoint holds beside its weights, as far as it holds it, and its finite numbers.

    Raises:
        UserError: names the first part that is not as MMEngine writes it.
    """
    wrong = next(_faults(checkpoint), None)
    if wrong:
        raise UserError(
            f"checkpoint '{path}': {wrong}: the file is damaged, or none of mmgfnuc train; take another one"
        )


def _faults(checkpoint: Mapping[str, Any]) -> Iterator[str]:
    meta = checkpoint.get('meta', {})
    for key, kind in {**META_KEYS, EPOCH: int}.items():
        if key in meta and (not isinstance(meta[key], kind) or isinstance(meta[key], bool)):
            yield f'meta.{key}={meta[key]!r:.60} is not of type {kind.__name__}'
        elif kind is int and not 0 <= meta.get(key, 0) <= (2**32 - 1 if key == 'seed' else MOST_STEPS):
            yield f'meta.{key}={meta[key]!r:.60} is out of range'
    classes = meta.get('dataset_meta', {}).get('classes', [])
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
        yield f'meta.dataset_meta.classes={classes!r:.60} are not names'
    seconds = meta.get(TRAIN_SECONDS, 0.0)
    if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        yield f'meta.{TRAIN_SECONDS}={seconds!r:.60} is not a time'
    hub = checkpoint.get('message_hub', {part: {} for part in HUB_PARTS})
    if not _is_hub(hub):
        yield f'message_hub lacks {", ".join(HUB_PARTS)}, or they are of wrong types'
    if 'optimizer' in checkpoint:
        if EPOCH not in meta:
            yield f'meta.{EPOCH} is not there'
        optimizers = _optimizers(checkpoint['optimizer'])
        if not optimizers or not all(_is_optimizer(one) for one in optimizers):
            yield 'optimizer holds no state and groups of parameters'
        elif wrong := first_not_finite(dict(_tensors(checkpoint['optimizer'], 'optimizer'))):
            yield f'{wrong} holds NaN or infinity'
    schedules = checkpoint.get('param_schedulers', [])
    lists = list(schedules.values()) if isinstance(schedules, dict) else [schedules]
    if not all(isinstance(states, list) and all(isinstance(one, dict) for one in states) for states in lists):
        yield 'param_schedulers is not a list of states'


def _is_hub(hub: Any) -> bool:
    if not isinstance(hub, dict) or not all(isinstance(hub.get(part), dict) for part in HUB_PARTS):
        return False
    kept = [hub['runtime_info'].get(name, []) for name in LISTS]
    return all(isinstance(name, str) for part in HUB_PARTS for name in hub[part]) and all(
        isinstance(one, list) for one in kept
    )


def _optimizers(optimizer: Any) -> list[Any]:
    """States of the one optimiser, or of several by name."""
    if not isinstance(optimizer, dict):
        return []
    return [optimizer] if 'param_groups' in optimizer else list(optimizer.values())


def _is_optimizer(state: Any) -> bool:
    match state:
        case {'state': dict() as states, 'param_groups': [_, *_] as groups}:
            return all(isinstance(one, dict) for one in states.values()) and all(
                isinstance(group, dict) and isinstance(group.get('params'), list) for group in groups
            )
    return False


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        yield from _tensors(item, f'{name}.{key}')


def carried_config(checkpoint: Mapping[str, Any], path: str | Path) -> Config:
    """Read the config that a checkpoint carries, as data.

    Raises:
        UserError: it holds code; see `read_dumped`.
    """
    return read_dumped(checkpoint['meta']['cfg'], f"checkpoint '{path}'")


@contextmanager
def weights_from_checkpoint(config: Config) -> Iterator[None]:
    """Let parts be built without their weight files where the checkpoint brings all of their weights.

    So it does of backbones, of a foundation encoder that was tuned in full, and of a module with the weights that its
    constructor gives.
    """
    if is_part_of(config.model.get('backbone') or {}, TimmBackbone):
        config.model.backbone.weights = None
    foundation = config.model.get('foundation')
    entry = entry_of_config(foundation) if foundation else None
    constructed = entry is not None and entry.constructs_weights and foundation.get('weights') is None
    if entry is None or not (constructed or foundation.get('tune') == 'full'):
        yield
        return
    foundation.weights = entry.without_file
    with weights_are_meant():
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
            'model.decode_head.num_classes, and types=True in the datasets for nucleus types'
        )
