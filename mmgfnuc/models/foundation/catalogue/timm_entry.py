"""Entries made from timm's own."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import timm
import torch

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.timm_models import check_timm_name, create_for_any_size, patch_stride, timm_hub

from .entry import Entry, quarters

PREFIX = 'timm:'
CONFIG_KEY = 'model.foundation.name'
# Kinds of encoders that are models of timm.
KINDS = ('vit', 'pyramid')
# What architectures say of themselves; building each once is enough.
_FACTS: dict[str, dict[str, Any]] = {}


def timm_entry(name: str) -> Entry:
    """Make the entry of `timm:<name>`, for ViTs and for models with stages whose sizes double.

    Raises:
        UserError: timm has no such model, or it gives no features.
    """
    arch = name.removeprefix(PREFIX)
    check_timm_name(arch, CONFIG_KEY)
    known = timm.models.get_pretrained_cfg(arch)
    entry = Entry(
        name=name,
        arch=arch,
        mean=known.mean,
        std=known.std,
        family='timm',
        licence=known.license,
        hub=timm_hub(known.to_dict()),
        file='model.safetensors',
        sources=("timm's own entry",),
    )
    return replace(completed(entry, CONFIG_KEY), arch=arch.split('.')[0])


def completed(entry: Entry, config_key: str = '') -> Entry:
    """Take what an entry leaves out from its architecture, where that is one of timm's.

    Args:
        entry: to complete.
        config_key: where the architecture was named; by default in the entry.

    Raises:
        UserError: timm has no such architecture, or it gives no features.
    """
    said = entry.encoder and entry.width and entry.depth and entry.patch and entry.layers and entry.native_size
    if said or not (entry.encoder in ('', *KINDS) or timm.is_model(entry.arch)):
        return entry
    key = f'{entry.arch} {entry.settings}'
    if key not in _FACTS:
        _FACTS[key] = _facts(entry, config_key or f"arch of the entry '{entry.name}'")
    facts = _FACTS[key]
    return replace(entry, **{name: value for name, value in facts.items() if value is None or not getattr(entry, name)})


def _facts(entry: Entry, config_key: str) -> dict[str, Any]:
    """What an architecture says of itself, built without memory."""
    check_timm_name(entry.arch, config_key)
    with torch.device('meta'):
        model = create_for_any_size(entry.arch, **entry.settings).eval()
    is_vit = isinstance(model, timm.models.VisionTransformer | timm.models.Eva)
    stages = [level['reduction'] for level in getattr(model, 'feature_info', ())]
    if not is_vit and not (len(stages) > 1 and all(deep > shallow for shallow, deep in pairwise(stages))):
        raise UserError(
            f"timm's '{entry.arch}' ({config_key}) gives no layers of a ViT nor of a pyramid; take one that does"
        )
    strides = [patch_stride(model)] if is_vit else stages
    _check_sizes(model, f"timm's '{entry.arch}' ({config_key})", strides)
    facts = dict(
        encoder='vit' if is_vit else 'pyramid',
        width=model.num_features,
        depth=len(model.blocks) if is_vit else len(stages),
        patch=strides[-1],
        layers=quarters(len(model.blocks)) if is_vit else tuple(range(len(stages))),
        native_size=model.patch_embed.img_size[0] if is_vit else model.pretrained_cfg['input_size'][1],
    )
    # Without absolute positions there is nothing to resample.
    return facts if is_vit and model.pos_embed is not None else {**facts, 'resampling': None}


def _check_sizes(model: Any, what: str, strides: list[int]) -> None:
    """Try, without computing anything, whether the model takes images of any size, and has the strides that it says."""
    height, width = 2 * strides[-1], 3 * strides[-1]
    expected = [(height // stride, width // stride) for stride in strides]
    try:
        features = model.forward_intermediates(
            torch.empty(1, 3, height, width, device='meta'), indices=len(strides), intermediates_only=True
        )
        given = [tuple(feature.shape[2:]) for feature in features]
        wrong = '' if given == expected else f'its features are {given} for {height}x{width} pixels, not {expected}'
    except Exception as error:  # each model fails in its own way
        wrong = str(error).partition('\n')[0] or type(error).__name__
    if wrong:
        raise UserError(f'{what} does not take images of any size: {wrong}; take one that does')
