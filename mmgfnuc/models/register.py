"""Parts of other packages under names of their own: from then on they are presets as those of `configs/_base_`.

What is kept of a part is data, in which a class is its dotted name: the config of a run is written down, and read again
by processes that know of no registration.
"""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from textwrap import shorten
from typing import Any

from mmengine.utils import get_object_from_string
from mmseg.models.decode_heads.decode_head import BaseDecodeHead

from mmgfnuc.errors import UserError
from mmgfnuc.models.decode_heads import InstanceHead
from mmgfnuc.models.foundation import Entry, add_entry, entry_of
from mmgfnuc.models.necks import FusionBlock
from mmgfnuc.names import registered
from mmgfnuc.presets import add_preset, checked_name
from mmgfnuc.registry import MODELS

from .parts import LONGEST, check_part, class_of
from .signatures import accepted

UNET_HEAD = {'type': 'mmgfnuc.UNetHead'}
# What a segmentor gives every neck.
WIRED_TO_NECKS = ('in_channels', 'context_channels', 'in_strides')


def register_unet(name: str, backbone: Mapping[str, Any], decode_head: Mapping[str, Any] = UNET_HEAD) -> None:
    """Make an encoder of one's own, with a decoder, one of `list_unets()`.

    Args:
        name: that `create_model(unet=...)` and studies then take.
        backbone: its config, `{'type': MyEncoder, ...}`. A type is a class, or the dotted name of one. `create_model`
            gives it `in_channels`.
        decode_head: config of the decoder; by default that of the U-Net.

    Raises:
        UserError: another preset has the name, or a config is not valid.
    """
    parts = {'backbone': _config('backbone', backbone), 'decode_head': _config('decode_head', decode_head)}
    _check(parts)
    for part, config in parts.items():
        kind = class_of(config, MODELS)
        if (isinstance(kind, type) and issubclass(kind, BaseDecodeHead)) != (part == 'decode_head'):
            raise UserError(
                f"unet='{name}': {part} is {config['type']}; give an encoder as backbone, and as decode_head a decode "
                'head that derives from PyramidDecodeHead, or one of MMSegmentation'
            )
    add_preset('unets', 'unet', name, parts)


def register_fusion(name: str, neck: Mapping[str, Any]) -> None:
    """Make a fusion block or a neck of one's own one of `list_fusions()`.

    Args:
        name: that `create_model(fusion=...)` and studies then take.
        neck: config of a FusionBlock, which fuses the bottleneck, or of a neck: `{'type': 'mmgfnuc.FusionNeck',
            'levels': 'all', 'block': {'type': MyBlock}}`. For types see `register_unet`.

    Raises:
        UserError: see `register_unet`.
    """
    config = _config('neck', neck)
    kind = class_of(config, MODELS)
    if isinstance(kind, type) and issubclass(kind, FusionBlock):
        config = {'type': 'mmgfnuc.FusionNeck', 'block': config}
    elif kind is not None and (takes := accepted(kind)).known and not {*WIRED_TO_NECKS} <= {*takes.hints}:
        raise UserError(
            f"fusion='{name}': {config['type']} is not a FusionBlock; derive a block from that, and let a neck take "
            f'{", ".join(WIRED_TO_NECKS)}'
        )
    _check({'neck': config})
    add_preset('fusion', 'fusion', name, {'neck': config})


def register_head(name: str, head: Mapping[str, Any]) -> None:
    """Make a head of one's own, which tells touching nuclei apart, one of `list_heads()`.

    Args:
        name: that `create_model(head=...)` and studies then take.
        head: config of an InstanceHead; its decoder is that of the U-Net. For types see `register_unet`.

    Raises:
        UserError: see `register_unet`; or it is a plain decode head.
    """
    config = _config('head', head)
    _check({'head': config})
    kind = class_of(config, MODELS)
    if not (isinstance(kind, type) and issubclass(kind, InstanceHead)):
        raise UserError(
            f"head='{name}': {config['type']} is not an InstanceHead; derive from one, or give a plain decode head to "
            'register_unet (decode_head)'
        )
    add_preset('heads', 'head', name, {'head': config})


def register_encoder(name: str, encoder: Mapping[str, Any] | Entry) -> None:
    """Make a foundation encoder of one's own one of `list_foundation()`.

    Args:
        name: that `create_model(foundation=...)` and studies then take.
        encoder: its config, `{'type': MyEncoder, ...}`, or an entry of the catalogue. For types see `register_unet`.

    Raises:
        UserError: see `register_unet`.
    """
    key = checked_name('encoder', name)
    if isinstance(encoder, Entry):
        entry, config = replace(encoder, name=key), {'type': 'mmgfnuc.foundation_encoder', 'name': key}
    else:
        config = _config('encoder', encoder)
        entry = entry_of(key, config)
        _check({'foundation': config})
    add_entry(entry)
    add_preset('foundation', 'encoder', key, {'foundation': config})


def _check(parts: Mapping[str, Mapping[str, Any]]) -> None:
    for name, config in parts.items():
        check_part(name, config, MODELS)


def _config(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{path}={value!r}: give a config, such as {{'type': MyPart}}")
    return _as_data(path, value)


def _as_data(path: str, value: Any) -> Any:
    """Return a config without classes: each type is a dotted name, and that what has it is a registered part."""
    if isinstance(value, Mapping):
        return {
            key: _type_name(f'{path}.type', inner) if key == 'type' else _as_data(f'{path}.{key}', inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_as_data(f'{path}.{index}', inner) for index, inner in enumerate(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(
        f'{path}={shorten(repr(value), LONGEST)}: a config holds numbers, text, lists and groups of these, as it is '
        'written down; give such, or name a part by a type'
    )


def _type_name(path: str, kind: Any) -> str:
    part = get_object_from_string(kind) if isinstance(kind, str) and '.' in kind else kind
    if isinstance(part, str) or part is None:  # a name in a registry, or of nothing: the check of the part tells
        return kind
    if not (inspect.isclass(part) or inspect.isfunction(part)) or part.__module__ == '__main__' or not _is_found(part):
        raise UserError(
            f'{path}={shorten(repr(part), LONGEST)}: a config names a class by its module, and this cannot be imported '
            'from one; define it at the top of a module, such as own_parts.py'
        )
    name = kind if isinstance(kind, str) else f'{part.__module__}.{part.__qualname__}'
    if not any(part is known for _, known in registered(MODELS.root)):
        MODELS.register_module(name, force=True, module=part)
    return name


def _is_found(part: Any) -> bool:
    try:
        return attrgetter(part.__qualname__)(sys.modules[part.__module__]) is part
    except (KeyError, AttributeError):
        return False
