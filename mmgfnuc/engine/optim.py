"""What the optimiser sees, and in which precision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

# Names of the parameters of a foundation encoder begin so.
ENCODER = 'foundation.network.'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableParamsConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's default constructor without the parameters that need no gradient: frozen encoders are left out.

    `paramwise_cfg=dict(layer_decay=0.75)` lets the learning rate of a foundation encoder that is tuned in full fall
    towards its input: `lr * layer_decay ** (num_layers - 1 - depth)`, the depth being 0 for its embeddings and
    num_layers - 1 for its last norm or neck. The rest of the model has the full rate.

    Raises:
        UserError: `layer_decay` is not in (0, 1], is given beside other settings, or the model has no foundation
            encoder, or a frozen one.

    Source of the decay: Clark et al. 2020, "ELECTRA", appendix B; Bao et al. 2022, "BEiT", section 3.1.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser wrapper."""
        if 'layer_decay' in (self.paramwise_cfg or {}):
            return self._with_layer_decay(model)
        # With a `paramwise_cfg`, which needs the module tree, the base class leaves them out itself.
        if self.paramwise_cfg:
            return super().__call__(model)
        return super().__call__(nn.ParameterList(p for p in model.parameters() if p.requires_grad))

    def _with_layer_decay(self, model: nn.Module) -> OptimWrapper:
        plain: Any = model.module if is_model_wrapper(model) else model
        decay, encoder = self.paramwise_cfg['layer_decay'], getattr(plain, 'foundation', None)
        if not 0 < decay <= 1:
            raise UserError(f'layer_decay={decay}: give a number above 0, at most 1; 0.75 is usual')
        others = sorted(set(self.paramwise_cfg) - {'layer_decay'})
        if others:
            raise UserError(f'paramwise_cfg: layer_decay={decay} goes alone, without {", ".join(others)}; drop one')
        if encoder is None:
            raise UserError(f'layer_decay={decay} is for a foundation encoder, and the model has none; drop it')
        if encoder.num_layers == 1:
            raise UserError(
                f'layer_decay={decay}: no names, blocks.<n>, layers.<n> or stages.<n>, order the parameters of '
                f"'{encoder.entry.name}' by depth; name its blocks so, or drop it"
            )
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            raise UserError(
                f'layer_decay={decay} is for a foundation encoder that is tuned, and this one is frozen; give '
                "model.foundation.tune='full', or drop it"
            )
        scales: dict[float, list[nn.Parameter]] = {}
        for name, parameter in plain.named_parameters():
            if parameter.requires_grad:
                inside = name.removeprefix(ENCODER)
                depth = encoder.layer_of(inside) if inside != name else encoder.num_layers - 1
                scales.setdefault(decay ** (encoder.num_layers - 1 - depth), []).append(parameter)
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': [{'params': group} for group in scales.values()]})
        for group, scale in zip(optimizer.param_groups, scales, strict=True):
            group['lr'] *= scale
        return OPTIM_WRAPPERS.build({'type': 'OptimWrapper'} | self.optim_wrapper_cfg | {'optimizer': optimizer})


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Forward and loss under bfloat16 autocast, on a CPU as on a GPU; parameters stay in float32.

    bfloat16 has the range of float32, so no loss scaling is needed. (MMEngine's `AmpOptimWrapper` refuses CPUs.)

    On a CPU depthwise convolutions stay in float32: PyTorch's gradients of those are slow in bfloat16.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast around the forward pass."""
        device = next(model.parameters()).device.type
        if device == 'cpu':
            _keep_depthwise_in_float32(model)
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


def _keep_depthwise_in_float32(model: nn.Module) -> None:
    """Let depthwise convolutions leave autocast; in the modules, so that recomputing them in a backward does so too."""
    for module in model.modules():
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        if depthwise and 'forward' not in vars(module):
            module.forward = partial(_in_float32, module.forward)


def _in_float32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autocast('cpu', enabled=False):
        return forward(x.float())
