"""Parts that are built of a config by another part."""

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.registry import DefaultScope, Registry

from mmgfnuc.names import unknown_type
from mmgfnuc.registry import MODELS


def look_up(kind: Any, registry: Registry = MODELS) -> Any:
    """Find what a type stands for under the default scope: a class, or the name of one; None where there is none."""
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(None) as scoped:
        try:
            return scoped.get(kind)
        except Exception:  # a dotted name may be looked for in a module that fails on import
            return None


def is_part_of(config: Mapping[str, Any], base: type) -> bool:
    """Say whether a config is that of a subclass."""
    kind = look_up(config.get('type'))
    return isinstance(kind, type) and issubclass(kind, base)


def takes(kind: Any, name: str) -> bool:
    """Whether a class or function takes a setting, by its own signature or by one that it passes `**kwargs` on to."""
    makers = [vars(owner).get('__init__') for owner in kind.__mro__] if isinstance(kind, type) else [kind]
    for maker in filter(inspect.isfunction, makers):
        parameters = inspect.signature(maker).parameters
        if name in parameters:
            return True
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return False
    return False


def build_part(config: Mapping[str, Any], registry: Registry = MODELS, **wired: Any) -> Any:
    """Build a part of a model.

    A part of another OpenMMLab library is built under its scope: the names of norms and losses in it are those of that
    library, whatever the default scope is.

    Args:
        config: registry config.
        registry: where its type is looked for.
        wired: settings that whoever builds the part knows; those of the config go first.

    Raises:
        UserError: there is no such part.
    """
    kind = config.get('type')
    found = look_up(kind, registry)
    if found is None and isinstance(kind, str):
        raise unknown_type('type', kind, registry)
    package = getattr(found, '__module__', '').partition('.')[0]
    foreign = package in registry.root.children and package != registry.scope
    with DefaultScope.overwrite_default_scope(package if foreign else None):
        return registry.build(config, default_args=wired)
