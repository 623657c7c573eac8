"""What a network costs whatever it runs on: its parameters, multiply-adds and the memory of its tensors."""

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network for prediction that holds and computes no numbers, only their shapes."""
    with torch.device('meta'), warnings.catch_warnings():
        # A constructor may load weights, which have no place here.
        warnings.filterwarnings('ignore', message='.*copying from a non-meta parameter')
        return build().eval()


def count_macs(model: nn.Module, size: int, channels: int = 3) -> int:
    """Multiply-adds that a network on the meta device takes for one image: convolutions, matrix products, attention.

    On that device attention runs as matrix products. PyTorch's counter does not know its fused form on the CPU.

    Args:
        model: from `on_meta`.
        size: side of the image, pixels.
        channels: of the image.
    """
    with torch.device('meta'), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, channels, size, size))
    return counter.get_total_flops() // 2


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Parameters of a network: all, and those that are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


class TensorMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it: those held at a time, and the most of it.

    Tensors that were there before, such as weights, are not counted, nor is the scratch memory that a kernel takes for
    itself. Unlike the memory of a process or of a GPU's allocator the figure is exact, and the same for each run.

    Attributes:
        held: bytes now.
        peak: most bytes so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._known.update(_storages((args, kwargs)))
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            # A view shares the storage of what it looks at.
            if storage not in self._known:
                self._known.add(storage)
                self.held += storage.nbytes()
                self.peak = max(self.peak, self.held)
                weakref.finalize(storage, self._free, storage.nbytes())
        return result

    def _free(self, size: int) -> None:
        self.held -= size


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor)]
