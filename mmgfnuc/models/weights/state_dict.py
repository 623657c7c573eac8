"""Comparing saved parameters with those of a model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SHOWN = 5


def describe_mismatch(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> str:
    """Say how a saved state dict differs from a model's own in keys and shapes; empty if it does not."""
    problems = [f'lacks {key}' for key in own if key not in saved]
    problems += [f'has {key}, which the model lacks' for key in saved if key not in own]
    problems += [
        f'has {key} as {tuple(saved[key].shape)}, the model as {tuple(own[key].shape)}'
        for key in own
        if key in saved and saved[key].shape != own[key].shape
    ]
    more = f'; and {len(problems) - SHOWN} more' if len(problems) > SHOWN else ''
    return '; '.join(problems[:SHOWN]) + more


def first_not_finite(state: Mapping[str, Any]) -> str | None:
    """Name the first tensor that holds NaN or infinity; None if all are finite."""
    numbers = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.is_floating_point()}
    return next((key for key, value in numbers.items() if not _is_finite(value)), None)


def _is_finite(value: Tensor) -> bool:
    # A sum is an order of magnitude faster, and is finite only if all are. That of finite numbers may overflow.
    return bool(value.sum(dtype=torch.float32).isfinite() or value.isfinite().all())
