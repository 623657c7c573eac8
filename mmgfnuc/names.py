"""The names of parts: presets, foundation encoders, studies. Found as users spell them, or refused with near ones."""

import difflib
import re
from collections.abc import Collection
from typing import Any

from mmgfnuc.errors import UserError

NEAR = 0.5
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
