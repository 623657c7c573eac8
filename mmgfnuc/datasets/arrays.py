"""NumPy files: opened without reading them, checked before they are used; nothing is unpickled."""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from .bad_file import BadFileError, require_file, unreadable
from .limits import require_room

LARGEST_ID = np.iinfo(np.int32).max
MAGIC = b'\x93NUMPY'
AGAIN = 'save it again: numpy.save(path, array)'
# Bytes of a value while it is compared and turned into an integer.
CHECKED_BYTES = 16


def open_array(path: Path) -> NDArray:
    """Map a .npy file into memory.

    Shape:
        - returns: any, numbers

    Raises:
        BadFileError: The file is missing, truncated or not a .npy file, or holds Python objects or text.
    """
    require_file(path)
    try:
        # NumPy lets sizes wrap.
        with np.errstate(over='raise'):
            array = open_memmap(path, mode='r')
    # A header is Python text: it fails in the parser, by its depth, or in the arithmetic of sizes.
    except Exception as error:
        raise unreadable(path, error, AGAIN) from error
    if array.dtype.kind not in 'buif':
        raise BadFileError(path, f'holds {array.dtype}, no numbers', AGAIN)
    return array


def open_patches(path: Path, channels: int) -> NDArray:
    """Map a .npy file of many patches into memory.

    Shape:
        - returns: (N, H, W, channels), numbers

    Raises:
        BadFileError: As `open_array`, or it has another shape.
    """
    array = open_array(path)
    if array.ndim != 4 or array.shape[3] != channels:
        raise BadFileError(path, f'shape {array.shape} is not (N, H, W, {channels})', 'get the original file')
    require_room(path, array.shape[1], array.shape[2], channels * CHECKED_BYTES)
    return array


def whole_numbers(values: NDArray, largest: int, path: Path, place: str) -> NDArray[np.int32]:
    """Turn numbers of any type into integers, if that is what they are.

    Shape:
        - values, returns: any

    Raises:
        BadFileError: Names `place` in the file and a value that is a fraction or outside 0 to `largest`.
    """
    if values.dtype.kind in 'bui':
        ends = np.array([values.min(initial=0), values.max(initial=0)])
        wrong = ends[(ends < 0) | (ends > largest)]
    else:
        # Said so that NaN is wrong too.
        wrong = values[~((values >= 0) & (values <= largest) & (values == np.floor(values)))]
    if wrong.size:
        what = f'{place} holds {wrong[0]:.10g}, no whole number from 0 to {largest}'
        raise BadFileError(path, what, 'get the original file, or number the nuclei from 1')
    return np.array(values, np.int32)
