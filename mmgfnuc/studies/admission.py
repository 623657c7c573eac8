"""Parts of one's own in the runs of a study: the modules that the study names are imported, and their parts admitted.

The config of a run is data, which may name registered parts alone. What a user's own package defines counts as one.
"""

import sys
from collections.abc import Collection, Mapping
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.extensions import import_parts

from .identity import KNOWN, part_names


def admit_parts(config: Mapping[str, Any], imports: Collection[str]) -> None:
    """Register the modules of PyTorch that a config names by their place in the packages that a study imports.

    Args:
        config: of a run.
        imports: modules that the study names.

    Raises:
        UserError: a part is in none of these packages nor registered, or its module cannot be imported.
    """
    for kind in part_names(config):
        module = kind.rpartition('.')[0]
        if module and module.partition('.')[0] not in KNOWN:
            _admit(kind, module, {name.partition('.')[0] for name in imports})


def _admit(kind: str, module: str, packages: Collection[str]) -> None:
    from torch.nn import Module  # not above: to say how far a study is takes no PyTorch

    from mmgfnuc.inference.dumped_config import find_part
    from mmgfnuc.registry import MODELS

    if find_part(kind):
        return
    package = module.partition('.')[0]
    if package not in packages:
        raise UserError(f"type='{kind}': its package is not imported; give the study imports: [{package}]")
    import_parts([module])
    part = getattr(sys.modules[module], kind.rpartition('.')[2], None)
    if not (isinstance(part, type) and issubclass(part, Module) and part.__module__.partition('.')[0] in packages):
        raise UserError(f"type='{kind}': the module has no such part of a model; give the place of a class of its own")
    MODELS.register_module(name=kind, module=part)
