"""Classes by their dotted names, as entries and configs that are written down keep them."""

import importlib
from typing import Any

from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.building import look_up

# Classes seen in this process: those of a function or a notebook cannot be imported by their names.
_SEEN: dict[str, Any] = {}


def dotted_name(kind: Any) -> str:
    """Name of a class with its module, by which `find_type` finds it again."""
    name = f'{kind.__module__}.{kind.__qualname__}'
    _SEEN[name] = kind
    return name


def find_type(kind: Any) -> Any:
    """Find what the `type` of a foundation encoder stands for: itself, or a registered or dotted name.

    Raises:
        UserError: there is no such name, its module cannot be imported, or it is a module that is built already.
    """
    if isinstance(kind, nn.Module):
        raise UserError(
            f'foundation encoder: type={type(kind).__name__}(...) is built already; give its class, with its arguments '
            'beside it'
        )
    found = look_up(kind)
    # A module that was loaded again has new classes under the names of old ones.
    if found is None and isinstance(kind, str):
        found = _SEEN.get(kind)
    if found is None:
        raise UserError(f"foundation encoder: type='{kind}' {_reason(kind)}; give a class, or the dotted name of one")
    return found


def _reason(kind: str) -> str:
    module = kind.rpartition('.')[0]
    try:
        importlib.import_module(module or 'mmgfnuc')
    except Exception as error:  # whatever the module raises
        return f'cannot be imported ({type(error).__name__}: ' + str(error).partition('\n')[0] + ')'
    return f"is not in '{module}'" if module else 'is not registered'
