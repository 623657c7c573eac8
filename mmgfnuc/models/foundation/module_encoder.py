"""Any module that turns images into feature maps, as a foundation encoder."""

import hashlib
import inspect
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import pad_to_multiple
from mmgfnuc.models.weights.files import load_exactly, read_state_dict
from mmgfnuc.models.weights.locate import RANDOM

from .base import FoundationEncoder
from .catalogue import Entry
from .types import find_type

# What is to be added to a module that does not say it.
EXAMPLES = {
    'out_channels': '(64, 128)',
    'out_strides': '(8, 16)',
    'mean': '(0.485, 0.456, 0.406)',
    'std': '(0.229, 0.224, 0.225)',
}
# How modules name what stands one behind the other; other parts have the depth of the first or the last of these.
BLOCK = re.compile(r'(?:^|\.)(?:blocks|layers|stages)[._](\d+)')
# Of weights that are drawn nearly all differ; fixed positions or filters may be the same each time.
MOST_FIXED = 0.5


class ModuleEncoder(FoundationEncoder):
    """A plain module: `dict(type=MyEncoder, width=32)` with the settings of FoundationEncoder beside its own.

    The module says what it gives, by attributes of its class or of itself:

    - `forward(images)` returns a map or several, shallow first, of normalised images whose sides are multiples of the
      deepest stride (they are padded, and the maps cropped back). Maps that are not as said are refused.
    - `out_channels`, `out_strides`: of each map.
    - `mean`, `std`: of its training images in [0, 1], per channel.

    Each of the last four may be given in the config instead, where the constructor does not take it itself. An argument
    of the constructor that has the name of a setting of FoundationEncoder is given in `arch`.

    Without a file in `weights` the weights are those that the constructor gives. They are saved in every checkpoint,
    also of a frozen encoder, as they are known to exist nowhere else. `weights='random'` is refused where the
    constructor gives the same weights each time: a control needs random ones. A file must fit exactly.

    Parameters are ordered by depth by their names, `blocks.<n>`, `layers.<n>` or `stages.<n>`, and gradient
    checkpointing calls the module's own `set_grad_checkpointing(True)`. Features in a cache belong to the arguments,
    the weights, and the source files of the classes of the module and of the modules in it.

    Args:
        out_layers: indices of the maps used, negative from the last. The module computes all of them, so that parts
            which serve only others get no gradient when tuned.
        arch: keyword arguments of the module instead of the entry's.

    Shape:
        (B, 3, H, W) -> map j: (B, out_channels[j], ceil(H / out_strides[j]), ceil(W / out_strides[j]))
    """

    def build(self, entry: Entry, arch: dict[str, Any], out_layers: Sequence[int | str] | None) -> None:
        """Build the module, and read what it says of itself."""
        kind, settings = find_type(entry.arch), {**entry.settings, **arch}
        self.network = kind(**settings)
        if self.weights == RANDOM:
            _check_random(self.network, entry.arch, lambda: kind(**settings))
        self.channels, self.strides = (self._whole_numbers(entry, name) for name in ('out_channels', 'out_strides'))
        if len(self.channels) != len(self.strides) or list(self.strides) != sorted(self.strides):
            raise UserError(
                f'{entry.arch}: out_channels={self.channels}, out_strides={self.strides}: give one of each for every '
                'map, shallow first'
            )
        # What a cache, a checkpoint and a message tell of the encoder.
        self.entry = replace(entry, mean=self._per_channel(entry, 'mean'), std=self._per_channel(entry, 'std'))
        count = len(self.channels)
        layers = (entry.layers or range(count)) if out_layers is None else out_layers
        outside = [layer for layer in layers if not (isinstance(layer, int) and -count <= layer < count)]
        if outside or not layers:
            raise UserError(f"out_layers={list(layers)}: '{entry.name}' has maps 0 to {count - 1}")
        self.out_layers = sorted({int(layer) % count for layer in layers})
        self.out_channels = tuple(self.channels[int(layer)] for layer in self.out_layers)
        self.out_strides = tuple(self.strides[int(layer)] for layer in self.out_layers)

    def _said(self, entry: Entry, name: str) -> Any:
        value = getattr(entry, name) or getattr(self.network, name, None)
        if value is None:
            raise UserError(
                f'{entry.arch} does not say its {name}: add an attribute to the class, such as {name} = '
                f'{EXAMPLES[name]}, or give {name}=... in the config'
            )
        return value

    def _whole_numbers(self, entry: Entry, name: str) -> tuple[int, ...]:
        value = self._said(entry, name)
        if not isinstance(value, list | tuple) or not value or not all(type(one) is int and one > 0 for one in value):
            raise UserError(
                f'{entry.arch}: {name}={value!r}: give a whole number for each map, such as {EXAMPLES[name]}'
            )
        return tuple(value)

    def _per_channel(self, entry: Entry, name: str) -> tuple[float, ...]:
        value = self._said(entry, name)
        numbers = isinstance(value, list | tuple) and all(isinstance(one, int | float) for one in value)
        if not numbers or len(value) != 3 or (name == 'std' and min(value) <= 0):
            raise UserError(f'{entry.arch}: {name}={value!r}: give a number for each colour, such as {EXAMPLES[name]}')
        return tuple(float(one) for one in value)

    def load_file(self, path: Path) -> None:
        """Load a file that fits exactly; `model`, `state_dict` or `teacher` around it and `module.` are taken off."""
        load_exactly(self.network, read_state_dict(path), path, self.entry.config_key)

    def prune(self) -> None:
        """Leave the module as it is: what serves which map is not known."""

    def use_grad_checkpointing(self) -> None:
        """Call the module's own switch.

        Raises:
            UserError: it has none.
        """
        if not hasattr(self.network, 'set_grad_checkpointing'):
            raise UserError(
                f'grad_checkpointing=True calls set_grad_checkpointing(True) of {self.entry.arch}, which lacks it; add '
                'the method, or drop the setting'
            )
        self.network.set_grad_checkpointing(True)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for what stands before the first block, i + 1 for block i, then what stands behind the last one."""
        return self._depths()[parameter]

    @property
    def num_layers(self) -> int:
        """Depths there are; 1 where no names order the parameters."""
        return max(self._depths().values(), default=0) + 1

    def _depths(self) -> dict[str, int]:
        names = [name for name, _ in self.network.named_parameters()]
        found = [BLOCK.search(name) for name in names]
        depths = [int(match[1]) + 1 if match else 0 for match in found]
        last = max((place for place, match in enumerate(found) if match), default=len(names))
        behind = max(depths, default=0) + 1
        return {name: behind if place > last else depths[place] for place, name in enumerate(names)}

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the module, and pick the maps that are used."""
        # Of strides such as 4 and 14 neither is a multiple of the other.
        padded = pad_to_multiple(images, math.lcm(*self.strides))
        given = self.network(padded)
        maps = given if isinstance(given, list | tuple) else [given]
        height, width = padded.shape[-2:]
        expected = [
            (len(padded), channels, height // stride, width // stride)
            for channels, stride in zip(self.channels, self.strides, strict=True)
        ]
        shapes = [tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in maps]
        if shapes != expected:
            raise UserError(
                f'{self.entry.arch} gives maps of shapes {shapes} for {tuple(padded.shape)}, and by its out_channels '
                f'{self.channels} and out_strides {self.strides} they are {expected}; correct one of them'
            )
        return tuple(maps[int(layer)] for layer in self.out_layers)

    def code(self) -> str:
        """Hash of the source files of the classes of the module and of the modules in it."""
        sources = set()
        for kind in {type(module) for module in self.network.modules()}:
            try:
                sources.add(Path(inspect.getsourcefile(kind) or '').read_bytes())
            except (OSError, TypeError) as error:
                raise UserError(
                    f"cache: the source of {kind.__qualname__} in '{self.entry.name}' is in no file, so that features "
                    'of before and after a change could not be told apart; put it into one, or drop the cache'
                ) from error
        return hashlib.blake2b(b''.join(sorted(sources)), digest_size=20).hexdigest()

    def _warn_of_weights(self) -> None:
        if self.weights == RANDOM:
            super()._warn_of_weights()
            return
        warnings.warn(
            f"'{self.entry.name}' has the weights that its constructor gives; they are saved in every checkpoint, "
            f'as no file of them is named ({self.entry.config_key})',
            stacklevel=5,
        )


def _check_random(network: nn.Module, name: str, build: Callable[[], nn.Module]) -> None:
    """Refuse a constructor that gives the same weights under another seed."""
    own = dict(network.named_parameters())
    if any(parameter.is_meta for parameter in own.values()):
        return
    with torch.random.fork_rng(devices=[]):
        # Not those of GPUs, which are not forked.
        torch.default_generator.manual_seed(torch.initial_seed() + 1)
        others = dict(build().named_parameters())
    # Ones of norms and zeros of biases are as random as they ever are.
    drawn = {key: value for key, value in own.items() if (value != value.reshape(-1)[:1]).any()}
    same = sum(value.numel() for key, value in drawn.items() if torch.equal(value, others[key]))
    if same > MOST_FIXED * sum(value.numel() for value in drawn.values()) or not drawn:
        raise UserError(
            f"weights='random': the constructor of {name} gives the same weights each time, as one that loads "
            'them does; name their file in weights=... instead, and let it draw them'
        )
