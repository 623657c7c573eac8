"""Reading and loading weight files."""

import argparse
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from mmgfnuc.errors import UserError

from .state_dict import describe_mismatch, first_not_finite
from .torch_files import is_script, read_script, read_torch_file, reason_of

# Keys of a file under which the state dict may lie; DINO's training keeps the student beside the teacher.
WRAPPERS = ('model', 'state_dict', 'teacher')
MOST_WRAPPED = 3
# What a file begins with that is not what its name says.
NOT_WEIGHTS = {
    b'<': 'a web page: the address was not that of the file, or asks for a login',
    b'version https://git-lfs': 'a pointer of Git LFS, without the file',
}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a safetensors or PyTorch file or of a TorchScript archive.

    Pickled objects other than tensors are refused, and nothing in the file is run. A state dict within a checkpoint
    (`model`, `state_dict`) is taken out, and the prefix `module.` of parallel training is taken off.

    Raises:
        UserError: the file is not a readable state dict.
    """
    with path.open('rb') as file:
        begin = file.read(64)
    for mark, what in NOT_WEIGHTS.items():
        if begin.lstrip().startswith(mark):
            raise UserError(f'{path} is {what}; download it again from its publisher')
    try:
        state = _read(path)
    except Exception as error:  # safetensors, zipfile and pickle each raise their own types
        raise UserError(f'{path} is not a readable weight file ({reason_of(error)}); download it again') from error
    for _ in range(MOST_WRAPPED):  # a hostile one holds itself
        if not isinstance(state, dict):
            break
        state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), state)
    if not _is_state_dict(state):
        raise UserError(f"{path} is not a plain state dict of tensors; give the publisher's original file")
    if all(key.startswith('module.') for key in state):
        return {key.removeprefix('module.'): value for key, value in state.items()}
    return state


def _is_state_dict(value: Any) -> bool:
    if not isinstance(value, dict) or not value:
        return False
    return all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())


def _read(path: Path) -> Any:
    if path.suffix == '.safetensors':
        return load_file(path)
    if is_script(path):
        return read_script(path)
    # DINO and MAE keep the arguments of their training beside the weights.
    return read_torch_file(path, allowed=[(argparse.Namespace, 'argparse.Namespace')])


def load_exactly(
    module: nn.Module, state: dict[str, Tensor], path: Path, config_key: str, optional: tuple[str, ...] = ()
) -> None:
    """Load a state dict in which every key and shape must match; keys that begin with one of `optional` may lack.

    Raises:
        UserError: names the first keys that are missing, unexpected or of another shape, or the first tensor that holds
            NaN or infinity.
    """
    own = {key: value for key, value in module.state_dict().items() if key in state or not key.startswith(optional)}
    mismatch = describe_mismatch(own, state)
    if mismatch:
        raise UserError(f'{path} does not fit the encoder ({config_key}): it {mismatch}')
    if wrong := first_not_finite(state):
        raise UserError(f'{path} ({config_key}): {wrong} holds NaN or infinity; download the file again')
    module.load_state_dict(state, strict=not optional)
