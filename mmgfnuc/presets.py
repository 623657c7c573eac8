"""The presets of `configs/_base_`: what they are called, what they say, and the model that some of them make.

Nothing here imports PyTorch: a config is only text until it is built.
"""

import copy
import difflib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmgfnuc.errors import UserError
from mmgfnuc.shipped import configs_folder


def list_presets(kind: str) -> dict[str, Path]:
    """Name -> file of the presets of one kind, a folder of `configs/_base_`, in a clone as in an installed wheel."""
    files = (configs_folder() / '_base_' / kind).glob('*.py')
    return dict(sorted((file.stem.replace('plus', '+').replace('_', '-'), file) for file in files))


@cache
def _read(path: Path) -> dict[str, Any]:
    return Config.fromfile(path).to_dict()


def read_preset(path: Path) -> dict[str, Any]:
    """Read the file of a preset; it is parsed once."""
    return copy.deepcopy(_read(path))


def preset_key(name: str) -> str:
    """Bring the name of a preset to the form that lists have it in: `Shuffled_Context_Image`, `eunet3plus`."""
    return name.lower().replace('_', '-').replace('plus', '+')


def _spelling(name: str) -> str:
    """What is left of a name when its separators are, such as `unet++` of `UNet_pp`."""
    bare = re.sub(r'[^a-z0-9+]', '', name.lower().replace('plus', '+'))
    return re.sub('pp$', '++', bare)


def _find(kind: str, argument: str, name: Any) -> dict[str, Any]:
    presets = list_presets(kind)
    key = preset_key(str(name))
    if key not in presets:
        alike = [preset for preset in presets if _spelling(preset) == _spelling(key)]
        near = alike or difflib.get_close_matches(key, presets, cutoff=0.5)
        hint = f'did you mean {" or ".join(near)}?' if near else f'choose one of {", ".join(presets)}'
        raise UserError(f"{argument}='{name}' is unknown; {hint}")
    return read_preset(presets[key])


def model_config(
    unet: str,
    foundation: str | Mapping[str, Any] | None,
    fusion: str,
    head: str,
    num_classes: int,
    in_channels: int,
    weights: str | None,
    parts: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """Return the registry config of the model that `create_model` builds of the same arguments.

    Raises:
        UserError: a name is unknown, or the arguments do not fit together.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise UserError(
            f'num_classes={num_classes!r}: background and nucleus are two softmax channels; give a whole number from 2'
        )
    settings = _find('unets', 'unet', unet)
    fused = _find('fusion', 'fusion', fusion)
    if (foundation is None) != (fused['neck'] is None):
        given = f"fusion='{fusion}'" if foundation is None else f"foundation='{foundation}' with fusion='none'"
        raise UserError(f'{given}: give both a foundation encoder and a fusion, or neither')
    settings |= fused | {'head': _find('heads', 'head', head)['head']}
    if foundation is not None:
        if in_channels != 3:
            raise UserError(f'in_channels={in_channels}: foundation encoders take RGB images; give 3, or no foundation')
        named = dict(type='mmgfnuc.foundation_encoder', name=foundation)
        encoder = dict(foundation) if isinstance(foundation, Mapping) else named
        settings['foundation'] = encoder | ({} if weights is None else {'weights': weights})
    elif weights is not None:
        raise UserError(f"weights='{weights}' are those of a foundation encoder, and none is given; drop them")
    settings['backbone']['in_channels'] = in_channels
    settings['head']['num_classes'] = num_classes
    for part, changes in _as_mapping('parts', parts or {}).items():
        if not isinstance(settings.get(part), dict):
            raise UserError(f"parts has '{part}', which the model lacks; it has {', '.join(_parts(settings))}")
        settings[part] = _laid_over(settings[part], _as_mapping(f"parts['{part}']", changes))
    settings['decode_head'] = {**settings.pop('head'), 'decoder': settings['decode_head']}
    return dict(type='mmgfnuc.FusionSegmentor', **settings)


def _as_mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(
            f"{name}={value!r}: give a dict of settings, such as {{'backbone': {{'widths': (16, 32, 64)}}}}"
        )
    return value


def _laid_over(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change some settings, and those within them."""
    merged = dict(settings)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _laid_over(merged[key], value) if nested else value
    return merged


def _parts(settings: dict[str, Any]) -> list[str]:
    return [name for name, value in settings.items() if isinstance(value, dict)]
