"""The names of parts: presets, foundation encoders, types. Found as users spell them, or refused with near ones."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import TYPE_CHECKING, Any

from mmgfnuc.errors import UserError

if TYPE_CHECKING:
    from mmengine.registry import Registry

# Settings that name a part by a class or a function.
NAMES_PART = ('type', 'constructor', 'ema_type', 'conv_type', 'resize_type')
NEAR = 0.5
# Of types, which are longer.
NEAR_TYPE = 0.6
MOST_NEAR_TYPES = 3
MOST_NEAR = 8


def find_name(argument: str, name: Any, known: Collection[str], otherwise: str = '') -> str:
    """Return the known name that is meant: case, `_` for `-` and `plus` for `+` make no difference.

    Args:
        argument: what the name was given for.
        name: as it was given.
        known: the names that there are.
        otherwise: what to do where none is near; by default to choose one of them.

    Raises:
        UserError: there is no such name; proposes near ones.

    >>> find_name('unet', 'EUNet3Plus', ['unet', 'eunet3+'])
    'eunet3+'
    >>> find_name('fusion', 'contex', ['concat', 'context'])
    Traceback (most recent call last):
    mmgfnuc.errors.UserError: fusion='contex' is unknown; did you mean context or concat?
    """
    names = {plain_name(one): one for one in known}
    key = plain_name(str(name))
    if key in names:
        return names[key]
    raise unknown_name(argument, name, known, otherwise)


def unknown_name(argument: str, name: Any, known: Collection[str], otherwise: str = '') -> UserError:
    """Say that there is no such name, and which are near; for the arguments see `find_name`."""
    names = {plain_name(one): one for one in known}
    near = _near(plain_name(str(name)), names)
    hint = f'did you mean {" or ".join(names[one] for one in near)}?' if near else otherwise
    return UserError(f"{argument}='{name}' is unknown; {hint or 'choose one of ' + ', '.join(known)}")


def unknown_type(path: str, kind: str, registry: 'Registry') -> UserError:
    """Say that a type is not found in a registry: that it is a part of another scope, or which types are near."""
    place, _, name = kind.rpartition('.')
    scopes = _scopes(registry.root)
    elsewhere = [scope for scope, names in scopes.items() if name in names]
    # Own parts have their modules in their names.
    given = name if place in ('', *scopes) else kind
    near = difflib.get_close_matches(given, set().union(*scopes.values()), MOST_NEAR_TYPES, NEAR_TYPE)
    if elsewhere and kind != f'{elsewhere[0]}.{name}':
        scope = elsewhere[0]
        hint = f"it is a part of {' and of '.join(elsewhere)}: write '{scope}.{name}', or set default_scope = '{scope}'"
    elif near:
        hint = f'near it: {", ".join(near)}'
    else:
        hint = 'correct it, or import its module (custom_imports)'
    return UserError(f"a part does not exist: {path}='{kind}'; {hint}")


def groups_of(settings: Any) -> Iterator[Any]:
    """All groups of settings, those within others after them."""
    if isinstance(settings, Mapping):
        yield settings
    if isinstance(settings, Mapping | list | tuple):
        for value in settings.values() if isinstance(settings, Mapping) else settings:
            yield from groups_of(value)


def registered(root: 'Registry') -> Iterator[tuple[str, Any]]:
    """Names in a registry and its children, alone and with their scope, each with what it stands for."""
    for branch in (root, *root.children.values()):
        for name, part in branch.module_dict.items():
            yield name, part
            yield f'{branch.scope}.{name}', part


def _scopes(registry: 'Registry') -> dict[str, set[str]]:
    """Names in a registry and in those below it, by scope."""
    # A package that is broken has none, and what another says as it is imported is not for the screen.
    with suppress(Exception), redirect_stdout(StringIO()):
        registry.import_from_location()
    found = {registry.scope: set(registry.module_dict)}
    for child in registry.children.values():
        for scope, names in _scopes(child).items():
            found[scope] = found.get(scope, set()) | names
    return found


def _near(key: str, keys: Collection[str]) -> list[str]:
    """Keys with the same letters, else those that go on where the key ends, else those that are spelt alike."""
    same = [one for one in keys if _letters(one) == _letters(key)]
    longer = [one for one in sorted(keys) if re.fullmatch(rf'{re.escape(key)}\W.*', one)]
    return same or longer[:MOST_NEAR] or difflib.get_close_matches(key, keys, cutoff=NEAR)


def plain_name(name: str) -> str:
    """Spell a name as lists of names do: in small letters, with `-` for `_` and `+` for `plus`."""
    return name.lower().replace('_', '-').replace('plus', '+')


def _letters(key: str) -> str:
    """What is left of a key without its separators, such as `unet++` of `unet-pp`."""
    return re.sub('pp$', '++', re.sub(r'[^a-z0-9+]', '', key))
