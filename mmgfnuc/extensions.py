"""Parts from outside: the presets that other packages register, and the modules that do so."""

import os
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mmgfnuc.errors import UserError

GROUP = 'mmgfnuc.parts'
# Kind -> name -> what the file of a preset would say.
REGISTERED: dict[str, dict[str, dict[str, Any]]] = {'unets': {}, 'foundation': {}, 'fusion': {}, 'heads': {}}


@dataclass(frozen=True)
class OwnParts:
    """What an installed package brings by an entry point.

    Attributes:
        package: name and version.
        module: that registers the parts.
        names: of what it has registered, with their kinds.
        problem: why not all of it is there; empty where it is.
    """

    package: str
    module: str
    names: tuple[str, ...]
    problem: str = ''


_loaded: list[OwnParts] | None = None


def load_parts() -> list[OwnParts]:
    """Import, once, the modules that installed packages name as entry points of the group `mmgfnuc.parts`.

    What fails is left out with a warning: the parts of one package do not stand in the way of the others.
    """
    global _loaded
    if _loaded is None:
        _loaded = []  # at once: while it is imported, a module may ask for the names that there are
        _loaded += [_load(entry) for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.value)]
    return _loaded


def _load(entry: EntryPoint) -> OwnParts:
    package = f'{entry.dist.name} {entry.dist.version}' if entry.dist else entry.name
    before, problem = _names(), ''
    try:
        if entry.attr:
            raise UserError(f"the entry point names '{entry.value}', and what is imported is a module; name one")
        import_module(entry.module)
    except Exception as error:  # a module fails in any way that Python does
        problem = _reason(entry.module, error)
        warnings.warn(f'own parts of {package} are not there: {problem}', stacklevel=3)
    return OwnParts(package, entry.module, tuple(name for name in _names() if name not in before), problem)


def _names() -> list[str]:
    return [f'{kind} {name}' for kind, presets in REGISTERED.items() for name in presets]


def import_parts(modules: Iterable[str]) -> None:
    """Import the modules of own parts by their names, from the working folder as well.

    Raises:
        UserError: one cannot be imported.
    """
    use_working_folder()
    for module in modules:
        try:
            import_module(module)
        except Exception as error:  # as above
            raise UserError(_reason(module, error)) from error


def use_working_folder() -> None:
    """Let modules of the working folder be imported; last, so that they stand in front of nothing installed."""
    folder = os.getcwd()  # noqa: PTH109 - as Python itself writes it
    if folder not in sys.path and '' not in sys.path:
        sys.path.append(folder)


def _reason(module: str, error: Exception) -> str:
    if '/' in module or module.endswith('.py'):
        name = module.removesuffix('.py').removeprefix('./').replace('/', '.')
        return f"module '{module}' is named as a file; name it as an import does: {name}"
    if isinstance(error, ModuleNotFoundError) and f'{module}.'.startswith(f'{error.name}.'):
        return (
            f"module '{module}' is not found; start from the folder that it lies in, or install the package that has it"
        )
    text = str(error).strip().partition('\n')[0]
    kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
    return f"module '{module}' cannot be imported: {kind}{text}"
