"""NumPy arrays of many patches: opened without reading them, checked before they are used.

Source: code: own.
"""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from mmgfnuc.datasets.canonical import BadFileError

LARGEST_ID = np.iinfo(np.int32).max


def open_array(path: Path, channels: int) -> NDArray:
    """Map a .npy file of patches into memory; nothing is unpickled.

    Shape:
        - returns: (N, H, W, channels), numbers

    Raises:
        BadFileError: the file is missing, truncated or no .npy, holds Python objects or text, or has another shape.
    """
    try:
        array = open_memmap(path, mode='r')
    except FileNotFoundError:
        raise BadFileError(path, 'missing', 'put the file there') from None
    except (OSError, ValueError) as error:
        raise BadFileError(path, f'unreadable ({" ".join(str(error).split())})', 'download it again') from error
    if array.dtype.kind not in 'uif':
        raise BadFileError(path, f'holds {array.dtype}, no numbers', 'download it again')
    if array.ndim != 4 or array.shape[3] != channels:
        raise BadFileError(path, f'shape {array.shape} is not (N, H, W, {channels})', 'get the original file')
    return array


def whole_numbers(values: NDArray, largest: int, path: Path, place: str) -> NDArray[np.int32]:
    """Turn numbers of any type into integers, if that is what they are.

    Shape:
        - values, returns: any

    Raises:
        BadFileError: names `place` in the file and a value that is a fraction or leaves 0 to `largest`.
    """
    # Said so that NaN is wrong too.
    wrong = ~((values >= 0) & (values <= largest) & (values == np.floor(values)))
    if wrong.any():
        what = f'{place} holds {values[wrong][0]:g}, no whole number from 0 to {largest}'
        raise BadFileError(path, what, 'get the original file')
    return np.array(values, np.int32)
