"""What the optimiser sees, and in which precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmgfnuc.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableParamsConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's default constructor without the parameters that need no gradient: frozen encoders stay out."""

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser wrapper."""
        # With a `paramwise_cfg`, which needs the module tree, the base class leaves them out itself.
        if self.paramwise_cfg:
            return super().__call__(model)
        return super().__call__(nn.ParameterList(p for p in model.parameters() if p.requires_grad))


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Forward and loss under bfloat16 autocast, on a CPU as on a GPU; parameters stay in float32.

    bfloat16 has the range of float32, so that no loss scaling is needed. (MMEngine's `AmpOptimWrapper` refuses CPUs.)
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast around the forward pass."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield
