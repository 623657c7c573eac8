"""What a network costs whatever it runs on: its parameters and multiply-adds."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network for prediction that holds and computes no numbers, only their shapes."""
    with torch.device('meta'):
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
