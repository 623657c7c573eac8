"""The presets of `configs/_base_` and of other packages: what they say, and the model that some of them make.

Nothing here imports PyTorch: a config is only text until it is built.
"""

import copy
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.extensions import REGISTERED, load_parts
from mmgfnuc.names import find_name, plain_name
from mmgfnuc.shipped import configs_folder

LONGEST = 100
# As names are listed. In front of a colon stands another library.
NAME = r'[a-z0-9][a-z0-9+.-]*'


def shipped_presets(kind: str) -> dict[str, Path]:
    """Name -> file of the presets of one kind that come with the package, a folder of `configs/_base_`."""
    files = (configs_folder() / '_base_' / kind).glob('*.py')
    return {plain_name(file.stem): file for file in files}


def list_presets(kind: str) -> list[str]:
    """Names of the presets of one kind, those of other packages among them."""
    load_parts()
    return sorted({*shipped_presets(kind), *REGISTERED.get(kind, ())})


def find_preset(kind: str, argument: str, name: Any) -> str:
    """Return the name of the preset that is meant; for arguments and errors see `read_preset`."""
    names = list_presets(kind)
    otherwise = (
        f'choose one of {", ".join(names)}; one of your own is there once the module that registers it is imported'
    )
    return find_name(argument, name, names, otherwise)


def read_preset(kind: str, argument: str, name: Any) -> dict[str, Any]:
    """Return what a preset says.

    Args:
        kind: of the preset.
        argument: what the name was given for.
        name: as it was given; see `find_name`.

    Raises:
        UserError: there is no such preset.
    """
    found = find_preset(kind, argument, name)
    own = REGISTERED.get(kind, {}).get(found)
    return copy.deepcopy(own or _read(shipped_presets(kind)[found]))


@cache
def _read(path: Path) -> dict[str, Any]:
    from mmengine.config import Config

    return Config.fromfile(path).to_dict()


def add_preset(kind: str, argument: str, name: str, settings: dict[str, Any]) -> None:
    """Add a preset of another package to those that there are; the same once more changes nothing.

    Args:
        kind: of the preset.
        argument: what the name is for.
        name: of the preset.
        settings: what it says: data.

    Raises:
        UserError: the name is none, or another preset has it.
    """
    key = checked_name(argument, name)
    if key in shipped_presets(kind):
        raise UserError(f"{argument}='{name}' comes with mmgfnuc; give yours another name")
    if REGISTERED[kind].setdefault(key, settings) != settings:
        raise UserError(f"{argument}='{name}' is registered already, with other settings; give yours another name")


def checked_name(argument: str, name: str) -> str:
    """Return a name as lists have it.

    Raises:
        UserError: it has signs that names do not have.
    """
    if not isinstance(name, str) or not re.fullmatch(NAME, plain_name(name)):
        raise UserError(f"{argument}={name!r}: a name is made of letters, digits, '-', '+' and '.'; give such a one")
    return plain_name(name)


def model_config(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the registry config of the model of some parts, see `model_parts`: its head gets its network decoder."""
    others = {name: value for name, value in parts.items() if name != 'head'}
    return dict(
        type='mmgfnuc.FusionSegmentor', **others | {'decode_head': {**parts['head'], 'decoder': parts['decode_head']}}
    )


def model_parts(
    unet: str,
    foundation: str | Mapping[str, Any] | None,
    fusion: str,
    head: str,
    num_classes: int,
    in_channels: int,
    weights: str | None,
    parts: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """Return the registry config of each part of the model that `create_model` builds of the same arguments.

    Raises:
        UserError: a name is unknown, or the arguments do not fit together.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise UserError(
            f'num_classes={num_classes!r}: background and nucleus are two softmax channels; give a whole number from 2'
        )
    settings = read_preset('unets', 'unet', unet)
    fused = read_preset('fusion', 'fusion', fusion)
    if (foundation is None) != (fused['neck'] is None):
        given = f"fusion='{fusion}'" if foundation is None else f"foundation='{foundation}' with fusion='none'"
        raise UserError(f'{given}: give both a foundation encoder and a fusion, or neither')
    settings |= fused | {'head': read_preset('heads', 'head', head)['head']}
    if foundation is not None:
        if in_channels != 3:
            raise UserError(f'in_channels={in_channels}: foundation encoders take RGB images; give 3, or no foundation')
        settings['foundation'] = _encoder(foundation)
    elif weights is not None:
        raise UserError(f"weights='{weights}' are those of a foundation encoder, and none is given; drop them")
    changes = _as_mapping('parts', parts or {})
    for part in changes:
        if not isinstance(settings.get(part), dict):
            raise UserError(f"parts has '{part}', which the model lacks; it has {', '.join(_parts(settings))}")
    arguments: dict[str, dict[str, Any]] = {
        'backbone': {'in_channels': in_channels},
        'head': {'num_classes': num_classes},
        'foundation': {} if weights is None else {'weights': weights},
    }
    for part in _parts(settings):
        own = _as_mapping(f"parts['{part}']", changes.get(part, {}))
        settings[part] = _laid_over(settings[part], {**arguments.get(part, {}), **own}, f"parts['{part}']")
    return settings


def _encoder(foundation: str | Mapping[str, Any]) -> dict[str, Any]:
    """Config of an encoder: one's own is told by its class, so that it can be read where its name is not known."""
    if isinstance(foundation, Mapping):
        return dict(foundation)
    if not isinstance(foundation, str):
        raise UserError(
            f"foundation={shorten(repr(foundation), LONGEST)}: give the name of an encoder, or {{'type': MyEncoder}} "
            'with its class'
        )
    load_parts()
    own = REGISTERED['foundation'].get(plain_name(foundation))
    return copy.deepcopy(own['foundation']) if own else dict(type='mmgfnuc.foundation_encoder', name=foundation)


def _as_mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(
            f"{name}={value!r}: give a dict of settings, such as {{'backbone': {{'widths': (16, 32, 64)}}}}"
        )
    return value


def _laid_over(settings: Any, changes: Any, path: str) -> Any:
    """Change some settings, and those within them; what is no group of settings takes their place.

    `_delete_` beside the changes of a group drops settings that it has: all with True, else those that it names.
    """
    if isinstance(changes, list | tuple):
        return type(changes)(_laid_over({}, item, f'{path}[{index}]') for index, item in enumerate(changes))
    if not isinstance(changes, Mapping):
        return changes
    merged = _kept(settings if isinstance(settings, Mapping) else {}, changes.get('_delete_', False), path)
    for key, value in changes.items():
        if key != '_delete_':
            merged[key] = _laid_over(merged.get(key), value, f"{path}['{key}']")
    return merged


def _kept(settings: Mapping[str, Any], deleted: Any, path: str) -> dict[str, Any]:
    """What is left of some settings without those to delete."""
    if isinstance(deleted, bool):
        return {} if deleted else dict(settings)
    names = [deleted] if isinstance(deleted, str) else deleted
    if not isinstance(names, list | tuple):
        raise UserError(f"{path}['_delete_']={deleted!r}: give True, the name of a setting, or a list of names")
    for name in names:
        if name not in settings:
            has = f'has {", ".join(settings)}' if settings else 'has no settings'
            raise UserError(f"{path}['_delete_'] names {name!r}, which the preset lacks; it {has}")
    return {key: value for key, value in settings.items() if key not in names}


def _parts(settings: dict[str, Any]) -> list[str]:
    return [name for name, value in settings.items() if isinstance(value, dict)]
