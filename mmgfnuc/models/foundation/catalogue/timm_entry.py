"""Entries made from timm's own."""

from itertools import pairwise
from typing import Any

import timm
import torch

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.timm_models import check_timm_name, create_for_any_size, patch_stride, timm_hub

from .entry import ANTIALIASED, Entry, quarters

PREFIX = 'timm:'
CONFIG_KEY = 'model.foundation.name'


def timm_entry(name: str) -> Entry:
    """Make the entry of `timm:<name>`, for ViTs and for models with stages whose sizes double.

    Raises:
        UserError: timm has no such model, or it gives no features.
    """
    arch = name.removeprefix(PREFIX)
    check_timm_name(arch, CONFIG_KEY)
    with torch.device('meta'):
        model = create_for_any_size(arch).eval()
    known = model.pretrained_cfg
    is_vit = isinstance(model, timm.models.VisionTransformer | timm.models.Eva)
    stages = [level['reduction'] for level in getattr(model, 'feature_info', ())]
    if not is_vit and not (len(stages) > 1 and all(deep > shallow for shallow, deep in pairwise(stages))):
        raise UserError(f"timm's '{arch}' ({CONFIG_KEY}) gives no layers of a ViT nor of a pyramid; take one that does")
    strides = [patch_stride(model)] if is_vit else stages
    _check_sizes(model, arch, strides)
    return Entry(
        name=name,
        family='timm',
        arch=arch.split('.')[0],
        encoder='vit' if is_vit else 'pyramid',
        width=model.num_features,
        depth=len(model.blocks) if is_vit else len(stages),
        patch=strides[-1],
        layers=quarters(len(model.blocks)) if is_vit else tuple(range(len(stages))),
        mean=tuple(known['mean']),
        std=tuple(known['std']),
        native_size=known['input_size'][1],
        resampling=ANTIALIASED if is_vit and model.pos_embed is not None else None,
        licence=known.get('license'),
        non_commercial=None,
        gated=None,
        hub=timm_hub(model),
        file='model.safetensors',
        address=None,
        citation='',
        sources=("timm's own entry",),
    )


def _check_sizes(model: Any, arch: str, strides: list[int]) -> None:
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
        raise UserError(f"timm's '{arch}' ({CONFIG_KEY}) does not take images of any size: {wrong}; take one that does")
