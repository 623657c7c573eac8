"""Low-rank adapters, through the peft library."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mmengine.utils import is_installed
from torch import nn

from mmgfnuc.errors import UserError

ATTENTION = r'.*\.attn\.(qkv|q_proj|k_proj|v_proj|proj)'
# PyTorch's modules that compute with the weights of their layers: adapters beside these would be left out.
TAKE_WEIGHTS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
SHOWN = 8
MLP = r'.*\.mlp\.(fc1|fc2|fc1_g|fc1_x|lin1|lin2)'


@dataclass(frozen=True)
class LoraSettings:
    r"""`W x + alpha / rank * B A x` beside a linear layer W, with A (rank x in) and B (out x rank), B zero at first.

    Attributes:
        rank: of the adapters.
        alpha: their scale is alpha / rank.
        dropout: of what enters the adapters.
        mlp: adapt the linear layers of the MLPs as well as those of the attention.
        targets: a regular expression over the whole names of linear layers, such as `.*\.(query|value)`, for an encoder
            whose layers have other names than timm's and segment-anything's; None adapts those of the attention.

    Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1; package peft.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    mlp: bool = False
    targets: str | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> 'LoraSettings':
        """Read what a config says.

        Raises:
            UserError: a setting does not exist or is out of range.
        """
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(settings) - set(names))
        if unknown:
            raise UserError(f"lora has no '{unknown[0]}'; it takes {', '.join(names)}")
        chosen = cls(**settings)
        if not isinstance(chosen.rank, int) or chosen.rank < 1:
            raise UserError(f'lora: rank={chosen.rank!r}: give a whole number from 1; 8 is usual')
        if not isinstance(chosen.alpha, int) or chosen.alpha < 1:
            raise UserError(f'lora: alpha={chosen.alpha!r}: give a whole number from 1; twice the rank is usual')
        if not isinstance(chosen.dropout, int | float) or not 0 <= chosen.dropout < 1:
            raise UserError(f'lora: dropout={chosen.dropout!r}: give a number from 0, below 1')
        if chosen.mlp and chosen.targets is not None:
            raise UserError(f"lora: targets='{chosen.targets}' says which layers; drop mlp=True, or targets")
        try:
            re.compile(chosen.targets or '')
        except re.error as error:
            raise UserError(f"lora: targets='{chosen.targets}' is not a regular expression: {error}") from error
        return chosen


def add_adapters(network: nn.Module, settings: LoraSettings) -> None:
    """Put adapters beside the linear layers; from then on they alone are trained.

    Raises:
        UserError: peft is not installed, or the network has no such layers.
    """
    if not is_installed('peft'):
        raise UserError(
            "tune='lora' needs the package peft; install it: pip install -c requirements/constraints.txt peft"
        )
    import peft

    targets = settings.targets or (f'{ATTENTION}|{MLP}' if settings.mlp else ATTENTION)
    linear = linear_layers(network)
    chosen = [name for name in linear if re.fullmatch(targets, name)]
    if not chosen:
        there = (
            f'lora.targets may name others, of which it has {_shown(linear)}, by a regular expression over whole names'
            if linear
            else 'it has no others'
        )
        what = f"that match targets='{settings.targets}'" if settings.targets else 'of attention'
        raise UserError(
            f"tune='lora' adapts the linear layers {what}, and this encoder has none; {there}; or use 'full'"
        )
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules='|'.join(map(re.escape, chosen)),
    )
    peft.inject_adapter_in_model(config, network)


def linear_layers(network: nn.Module) -> list[str]:
    """Names of the linear layers that are called as such: PyTorch's own attention takes the weights out of its."""
    inside = [f'{name}.' for name, module in network.named_modules() if isinstance(module, TAKE_WEIGHTS)]
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(tuple(inside))
    ]


def _shown(names: list[str]) -> str:
    return ', '.join(names[:SHOWN]) + (f' and {len(names) - SHOWN} more' if len(names) > SHOWN else '')


def is_adapter(key: str) -> bool:
    """Is this the key of an adapter's parameter?"""
    return '.lora_' in key


def merge_adapters(network: nn.Module) -> None:
    """Merge the adapters into their layers and remove them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, child = name.rpartition('.')
            setattr(network.get_submodule(parent), child, module.get_base_layer())
