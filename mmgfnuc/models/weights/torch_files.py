"""Reading files of PyTorch as data: nothing in them is run, and a damaged byte is noticed."""

import io
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# PyTorch stores tensors as they are; of what it packs (the code of TorchScript) little is to be expected.
MOST_UNPACKED = 64 * 2**20
SCRIPT_DATA = '/data.pkl'
STORAGE_DTYPES = {
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'DoubleStorage': torch.float64,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
}


def read_torch_file(path: Path, map_location: Any = 'cpu', allowed: Sequence[tuple[Any, str]] = ()) -> Any:
    """Read a file of `torch.save`: tensors, numbers, text, and lists and dictionaries of them.

    The checksums of the archive are compared, which `torch.load` does not do.

    Args:
        path: of the file.
        map_location: see `torch.load`.
        allowed: what takes the place of other objects, and the names that the file has for them.

    Raises:
        Exception: of many types; `reason_of` says what is wrong.
    """
    if zipfile.is_zipfile(path):
        _check_archive(path)
    with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Detected pickle protocol')
        return torch.load(path, map_location=map_location, weights_only=True)


def reason_of(error: Exception) -> str:
    """Say in a few words why a file could not be read."""
    if isinstance(error, pickle.UnpicklingError):
        foreign = re.search(r'GLOBAL (\S+)', str(error))
        return f'it holds more than data{f", {foreign[1]}" if foreign else ""}: nothing of it was run'
    return str(error).partition('\n')[0] or type(error).__name__


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size + MOST_UNPACKED:
            raise ValueError('it unpacks to far more than its size')
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f'its part {damaged} does not have its checksum')


def is_script(path: Path) -> bool:
    """Say whether a file is an archive of TorchScript."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('/constants.pkl') for name in archive.namelist())


def read_script(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an archive of TorchScript by their names; `torch.jit.load` would run code of the archive.

    Raises:
        Exception: of many types; `reason_of` says what is wrong.
    """
    _check_archive(path)
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(SCRIPT_DATA) and name.count('/') == 1]
        if len(names) != 1:
            raise ValueError('it is not an archive of TorchScript')
        return dict(_tensors(_ScriptUnpickler(archive, names[0]).load(), ''))


class _ScriptModule:
    """Takes the place of every class of an archive: its attributes, and nothing of what it does."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


# The variant in Python: that in C allocates as much as a file says.
class _ScriptUnpickler(pickle._Unpickler):
    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        super().__init__(io.BytesIO(archive.read(name)))
        self.archive, self.folder = archive, name.removesuffix(SCRIPT_DATA)

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith('__torch__'):
            return _ScriptModule
        if (module, name) == ('collections', 'OrderedDict'):
            return OrderedDict
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            return _rebuild
        if module == 'torch' and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        if module == 'torch.jit._pickle':
            # Typed lists and dictionaries; none of them is of tensors of a state dict.
            return _first
        raise pickle.UnpicklingError(f'GLOBAL {module}.{name}')

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, _ = pid
        content = bytearray(self.archive.read(f'{self.folder}/data/{key}'))
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _first(value: Any, *_: Any) -> Any:
    return value


def _tensors(module: _ScriptModule, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _ScriptModule):
            yield from _tensors(value, f'{prefix}{name}.')
