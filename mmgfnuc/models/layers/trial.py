"""A network is tried on an empty image: what it gives, and whether all of it is used."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


@torch.enable_grad()
def run_empty(network: Callable[[Tensor], Any], module: nn.Module, shape: Sequence[int]) -> tuple[Any, str | None]:
    """Run a network on an image of zeros, and return what it gives, and what went wrong.

    Args:
        network: what is run.
        module: that it runs; its parameters say on which device.
        shape: of the image, (B, C, H, W).
    """
    parameter = next(module.parameters(), torch.empty(0))
    try:
        return network(torch.zeros(*shape, device=parameter.device)), None
    except Exception as error:  # each network fails in its own way
        return None, str(error).strip().partition('\n')[0] or type(error).__name__


@torch.enable_grad()
def unused_parameters(module: nn.Module, outputs: Sequence[Tensor]) -> list[str]:
    """Names of the trainable parameters that no output depends on: DDP would wait for their gradients.

    Of what was made under `torch.inference_mode`, and so is never trained, none.
    """
    if torch.is_inference_mode_enabled():
        return []
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    total = torch.stack([output.sum() for output in outputs]).sum()
    if not named or not total.requires_grad:
        return [name for name, _ in named]
    gradients = torch.autograd.grad(total, [parameter for _, parameter in named], allow_unused=True)
    return [name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None]
