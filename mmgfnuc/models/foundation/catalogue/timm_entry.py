"""Entries made from timm's own."""

from itertools import pairwise
from typing import Any

import timm
import torch

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.timm_models import check_timm_name

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
        model = timm.create_model(arch, pretrained=False, num_classes=0)
    known = model.pretrained_cfg
    is_vit = isinstance(model, timm.models.VisionTransformer | timm.models.Eva)
    stages = [level['reduction'] for level in getattr(model, 'feature_info', ())]
    if not is_vit and not (len(stages) > 1 and all(deep > shallow for shallow, deep in pairwise(stages))):
        raise UserError(f"timm's '{arch}' ({CONFIG_KEY}) gives no layers of a ViT nor of a pyramid; take one that does")
    return Entry(
        name=name,
        family='timm',
        arch=arch.split('.')[0],
        encoder='vit' if is_vit else 'pyramid',
        width=model.num_features,
        depth=len(model.blocks) if is_vit else len(stages),
        patch=model.patch_embed.patch_size[0] if is_vit else stages[-1],
        layers=quarters(len(model.blocks)) if is_vit else tuple(range(len(stages))),
        mean=tuple(known['mean']),
        std=tuple(known['std']),
        native_size=known['input_size'][1],
        resampling=ANTIALIASED if is_vit and model.pos_embed is not None else None,
        licence=known.get('license'),
        non_commercial=None,
        gated=None,
        hub=_hub(known),
        file='model.safetensors',
        address=None,
        citation='',
        sources=("timm's own entry",),
    )


def _hub(known: dict[str, Any]) -> str:
    repository = known.get('hf_hub_id') or f'timm/{known["architecture"]}'
    return repository if not repository.endswith('/') else f'{repository}{known["architecture"]}.{known["tag"]}'
