"""A foundation encoder by its name, or of a config."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.building import takes
from mmgfnuc.models.weights.locate import RANDOM
from mmgfnuc.registry import MODELS

from .base import FoundationEncoder, weights_are_meant
from .catalogue import Entry, find_entry
from .catalogue.entry import MODULE
from .module_encoder import ModuleEncoder
from .sam import SAMEncoder
from .timm_pyramid import TimmPyramidEncoder
from .timm_vit import TimmViTEncoder
from .types import dotted_name, find_type

ENCODERS: dict[str, type[FoundationEncoder]] = {
    'sam': SAMEncoder,
    'vit': TimmViTEncoder,
    'pyramid': TimmPyramidEncoder,
    MODULE: ModuleEncoder,
}
# Settings of every encoder, those of them that an entry keeps, each with its name there, and what a module says that
# may be given beside them.
SETTINGS = tuple(
    name for name in inspect.signature(FoundationEncoder.__init__).parameters if name not in ('self', 'entry')
)
KEPT = {'weights': 'file', 'out_layers': 'layers', 'input_size': 'input_size'}
FACTS = ('mean', 'std', 'out_channels', 'out_strides')


@MODELS.register_module()
def foundation_encoder(name: str, **settings: Any) -> FoundationEncoder:
    """Build an encoder of the catalogue: `dict(type='mmgfnuc.foundation_encoder', name='dinov2-vit-b14')`.

    Args:
        name: one of `list_foundation()`, or `timm:<name>` for any ViT or pyramid of timm.
        settings: `weights`, `out_layers`, `tune`, `input_size`, `arch`, `grad_checkpointing`, `lora`, `cache`: see
            FoundationEncoder.

    Raises:
        UserError: the name is unknown, a setting does not fit, or the weights are not there.
    """
    entry = find_entry(name)
    return _class_of(entry)(entry, **settings)


def _class_of(entry: Entry) -> Any:
    """Class of an encoder: one of ENCODERS, or one's own by its dotted name."""
    kind = ENCODERS.get(entry.encoder) or find_type(entry.encoder)
    if not inspect.isclass(kind) or not issubclass(kind, FoundationEncoder):
        raise UserError(
            f"entry '{entry.name}': encoder='{entry.encoder}' is no FoundationEncoder; give {', '.join(ENCODERS)}, or "
            'the dotted name of one'
        )
    return kind


def build_encoder(config: Mapping[str, Any]) -> FoundationEncoder:
    """Build an encoder of its config: one by name, a FoundationEncoder, or any module, as a ModuleEncoder.

    Raises:
        UserError: the type does not exist or is something else, a setting does not fit, or the weights are not there.
    """
    kind = find_type(config.get('type'))
    if is_plain_module(kind):
        entry, settings = _split(kind, config)
        return ModuleEncoder(entry, **settings)
    encoder = MODELS.build(config)
    if not isinstance(encoder, FoundationEncoder):
        raise UserError(
            f'foundation: {config.get("type")} gives a {type(encoder).__name__}; give a FoundationEncoder, or the '
            'class of a module that returns feature maps'
        )
    return encoder


def entry_of(name: str, config: Mapping[str, Any]) -> Entry:
    """Make an entry of the config of a plain module, to be found by a name of its own.

    Of the settings of FoundationEncoder it keeps `weights` (a file), `out_layers` and `input_size`, as defaults.

    Raises:
        UserError: the type is no module, or a setting says how an encoder is used.
    """
    kind = find_type(config.get('type'))
    if not is_plain_module(kind):
        raise UserError(
            f"foundation encoder '{name}': {config.get('type')} is not the class of a plain module; give an Entry, "
            'whose `encoder` may be the dotted name of a FoundationEncoder'
        )
    entry, settings = _split(kind, config)
    of_use = [key for key in settings if key not in KEPT or settings[key] == RANDOM]
    if of_use:
        raise UserError(
            f"foundation encoder '{name}': {of_use[0]}={settings[of_use[0]]!r} says how it is used; give it where the "
            'encoder is used, not where it is registered'
        )
    return replace(entry, name=name, **{KEPT[key]: value for key, value in settings.items()})


def entry_of_config(config: Mapping[str, Any]) -> Entry:
    """Return what is known of the encoder of a config, without its weights.

    Raises:
        UserError: the type or the name does not exist, or a setting does not fit.
    """
    kind = find_type(config.get('type'))
    if kind is foundation_encoder:
        return find_entry(config.get('name', ''))
    if is_plain_module(kind):
        return _split(kind, config)[0]
    with torch.device('meta'), weights_are_meant():
        return build_encoder({**config, 'weights': RANDOM, 'cache': None}).entry


def is_plain_module(kind: Any) -> bool:
    """Whether a type is a module that ModuleEncoder wraps."""
    return inspect.isclass(kind) and issubclass(kind, nn.Module) and not issubclass(kind, FoundationEncoder)


def _split(kind: type[nn.Module], config: Mapping[str, Any]) -> tuple[Entry, dict[str, Any]]:
    """Split the config of a plain module into its entry and the settings of FoundationEncoder."""
    given = {key: value for key, value in config.items() if key not in ('type', '_scope_')}
    # The weights of an encoder always are those that are loaded into it.
    both = [key for key in given if key in SETTINGS and takes(kind, key) and key not in ('weights', 'cache')]
    if both:
        raise UserError(
            f'foundation: {both[0]}={given[both[0]]!r} may be meant for {kind.__name__}, or be the setting of every '
            f"foundation encoder; give the former as arch={{'{both[0]}': ...}}, or name it otherwise there"
        )
    settings = {key: given.pop(key) for key in SETTINGS if key in given}
    facts = {key: given.pop(key) for key in FACTS if key in given and not takes(kind, key)}
    facts = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    entry = Entry(
        name=kind.__name__, arch=dotted_name(kind), encoder=MODULE, settings=given, **{'mean': (), 'std': (), **facts}
    )
    return entry, settings
