"""Names that a package exports and imports when they are first used, so that its light modules stay light (PEP 562)."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_exports(package: str, exports: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package; `exports` are the names that it takes from each of its modules."""
    modules = {name: module for module, names in exports.items() for name in names}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f'{package}.{modules[name]}'), name)

    return find
