"""The settings of a part, and of those in it, against the signature of what its type stands for; nothing is built."""

import difflib
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from textwrap import shorten
from typing import Any, Literal, NoReturn

from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    TASK_UTILS,
    TRANSFORMS,
    VISBACKENDS,
    WEIGHT_INITIALIZERS,
    Registry,
)

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones import Backbone, ModuleBackbone
from mmgfnuc.models.foundation import CacheSettings, FoundationEncoder, LoraSettings
from mmgfnuc.models.foundation.create import FACTS, is_plain_module
from mmgfnuc.models.layers.building import look_up
from mmgfnuc.models.segmentors import TEST_SETTINGS, FusionSegmentor
from mmgfnuc.names import unknown_type

from .signatures import NOTHING, SCALARS, Accepted, accepted, describe, fits

LONGEST = 100
NEAR = 0.6
# Least values of whole numbers; below it a run fails later, or ends without having done anything.
LEAST = {
    **dict.fromkeys(('max_iters', 'max_epochs', 'val_interval', 'batch_size', 'accumulative_counts', 'window_size'), 1),
    'T_max': 1,
    'num_workers': 0,
}
# What turns the gradients to nothing or around where it is not above 0.
ABOVE_ZERO = ('max_norm', 'clip_value')
LARGEST_SEED = 2**32 - 1
# What nobody sets by hand.
WIRED = {'type', '_scope_', 'params', 'runner', 'dataloader', 'evaluator'}
# What groups of settings hold that are not parts themselves. engine.settings adds those of transforms, which models
# do not import.
GROUPS: dict[Any, dict[str, Accepted]] = {
    FusionSegmentor: {'test_cfg': Accepted(TEST_SETTINGS)},
}
# What a foundation encoder of any type is given besides.
ENCODER_GROUPS = {'lora': accepted(LoraSettings), 'cache': accepted(CacheSettings)}
# Settings of what is built around a plain module, and stand beside its own.
OF_ENCODERS = accepted(FoundationEncoder).without(['entry']) | Accepted(dict.fromkeys(FACTS, Sequence[float]))
OF_BACKBONES = accepted(ModuleBackbone).without(['module'])
# MMEngine's annotations are wider than what works.
NARROWER = {
    'collect_device': Literal['cpu', 'gpu', 'npu'],
    'mp_start_method': Literal[tuple(multiprocessing.get_all_start_methods())],
}
# Which registry the parts below a key come from, wherever it stands.
REGISTRIES = {
    'dataset': DATASETS,
    'datasets': DATASETS,
    'pipeline': TRANSFORMS,
    'transforms': TRANSFORMS,
    'sampler': DATA_SAMPLERS,
    'batch_sampler': DATA_SAMPLERS,
    'init_cfg': WEIGHT_INITIALIZERS,
    'vis_backends': VISBACKENDS,
    'postprocess': TASK_UTILS,
}


def check_parts(path: str, value: Any, registry: Registry, also: Accepted = NOTHING) -> None:
    """Check one part or a list of them."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_part(f'{path}.{index}', item, registry, also)
    else:
        check_part(path, value, registry, also)


def check_part(path: str, value: Any, registry: Registry, also: Accepted = NOTHING) -> None:
    """Check a part; None and an object are none.

    Raises:
        UserError: it is a plain value, or a group without a type, or see `check_typed`.
    """
    if isinstance(value, Mapping):
        if 'type' not in value:
            raise without_type(path)
        check_typed(path, value, registry, also=also)
    elif isinstance(value, SCALARS):
        raise UserError(f'{path}={value!r}: a part of a run is a group of settings with a type; give one')


def check_typed(
    path: str, value: Mapping, registry: Registry, default: Any = None, also: Accepted = NOTHING, strict: bool = True
) -> None:
    """Check a part and those in it.

    Args:
        path: of the part in the config.
        value: its settings.
        registry: where its type is looked for.
        default: what is built where no type is given.
        also: settings that whoever builds the part takes out before.
        strict: refuse a type that is not found.

    Raises:
        UserError: the type, or the name or the value of a setting, is wrong.
    """
    target = find_type(f'{path}.type', value.get('type'), registry, default, strict)
    if target is not None:
        name = getattr(target, '__name__', str(target))
        key = path.rpartition('.')[2]
        taken = _around(key, target, also | accepted(target) | Accepted({'type': Any, '_scope_': str}))
        check_group(path, value, taken, name)
        for group, settings in (GROUPS.get(target, {}) | (ENCODER_GROUPS if key == 'foundation' else {})).items():
            check_group(f'{path}.{group}', value.get(group), settings)
    for key, inner in value.items():
        if key not in also.hints:
            _inner(path, key, inner, registry)


def _around(key: str, target: Any, taken: Accepted) -> Accepted:
    """Add to what a plain module takes the settings of the part that is built around it."""
    if key == 'foundation' and is_plain_module(target):
        return OF_ENCODERS | taken  # `weights` are the encoder's, whatever the module means by them
    if key == 'backbone' and not (isinstance(target, type) and issubclass(target, Backbone)):
        return taken | OF_BACKBONES
    return taken


def _inner(path: str, key: Any, value: Any, registry: Registry) -> None:
    """Check the parts anywhere in a value. Where a type is not found, only building tells whether that is wrong."""
    path, registry = f'{path}.{key}', REGISTRIES.get(key, registry)
    if isinstance(value, Mapping) and 'type' in value:
        if registry is WEIGHT_INITIALIZERS:
            check_typed(path, value, registry, also=Accepted({'layer': Any, 'override': Any}))
        elif not str(key).endswith('_cfg'):  # such as `norm_cfg`: MMCV takes more than what the type takes
            check_typed(path, value, registry, strict=False)
    elif isinstance(value, Mapping | list | tuple):
        items: Iterable = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, inner in items:
            _inner(path, name, inner, registry)


def find_type(path: str, kind: Any, registry: Registry, default: Any, strict: bool = True) -> Any:
    """Find what a type stands for: a class in a config file, a name in a dumped one."""
    if kind is None:
        return default
    if not isinstance(kind, str):
        if not callable(kind):
            raise UserError(f'{path}={kind!r}: a type is a class or the name of one; give one')
        return kind
    found = look_up(kind, registry)
    if found is None and strict:
        raise unknown_type(path, kind, registry)
    return found


def class_of(part: Any, registry: Registry) -> Any:
    """Class of a part: in a config file a type is one, in a dumped one its name. None where none is found."""
    kind = part.get('type') if isinstance(part, Mapping) else None
    return find_type('type', kind, registry, None, strict=False)


def without_type(path: str) -> UserError:
    """What to say of a part that has no type."""
    return UserError(f"{path}: it has no 'type', which says what is built of its settings; give one")


def check_group(path: str, value: Any, taken: Accepted, owner: str = '') -> None:
    """Check the names and the types of the settings of a group."""
    if not isinstance(value, Mapping):
        return
    for name, setting in value.items():
        if name in taken.hints:
            if not (name in taken.defaults and _same(setting, taken.defaults[name])):
                check_value(f'{path}.{name}', setting, taken.hints[name])
        elif taken.known:
            refuse(f'{path}.{name}', name, owner or path, taken.hints)


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and isinstance(value, SCALARS) and value == default)


def check_value(path: str, value: Any, hint: Any) -> None:
    """Check the type of a value, and of some numbers the range.

    Raises:
        UserError: the path, the value, and what to give.
    """
    name = path.rpartition('.')[2]
    hint = NARROWER.get(name, hint)
    shown = f'{path}={shorten(repr(value), LONGEST)}'
    if not fits(value, hint):
        raise UserError(f'{shown}: give {describe(hint)}')
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name in LEAST and value < LEAST[name]:
            raise UserError(f'{shown}: give at least {LEAST[name]}')
        if name in ABOVE_ZERO and value <= 0:
            raise UserError(f'{shown}: give a number above 0')
        if name == 'seed' and not 0 <= value <= LARGEST_SEED:
            raise UserError(f'{shown}: a seed is in 0 to 2**32 - 1; give another')


def refuse(path: str, name: str, owner: str, names: Iterable[str]) -> NoReturn:
    """Say that a setting does not exist, and which of those that do are near.

    Raises:
        UserError: always.
    """
    public = sorted(set(names) - WIRED)
    near = difflib.get_close_matches(name, public, 3, NEAR)
    if near:
        hint = f'near it: {", ".join(near)}'
    else:
        hint = f'it takes {", ".join(public)}' if public else 'it takes no settings'
    raise UserError(f"a setting does not exist: {path}; {owner} has no '{name}'; {hint}")
