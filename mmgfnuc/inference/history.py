"""What MMEngine's checkpoints hold besides tensors, rebuilt by readers of our own: curves of the log, as arrays."""

import math
import pickle
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

NUMBERS = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'b1')
METHODS = ('min', 'max', 'current', 'mean')


class _DType:
    """The type of an array: one of NumPy's own numbers, whatever else its state says."""

    def __init__(self, name: str, *_: Any) -> None:
        if name not in NUMBERS:
            raise ValueError(f'an array of {name!r}, which is no type of numbers')
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


# What takes the place of an object, and its name in a file; NumPy 1 had another for its core.
ALLOWED = [
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_method, 'builtins.getattr'),
    (_Array, 'numpy.ndarray'),
    (_DType, 'numpy.dtype'),
    *((_new_array, f'numpy.{core}.multiarray._reconstruct') for core in ('_core', 'core')),
    *((_scalar, f'numpy.{core}.multiarray.scalar') for core in ('_core', 'core')),
]
