"""Decode heads that are built of a config and wired to a pyramid."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import ModuleDict
from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.building import build_part, is_part_of, look_up

from .base import PyramidDecodeHead


def build_decoder(
    config: Mapping[str, Any], in_channels: Sequence[int], in_strides: Sequence[int] | None, **changes: Any
) -> Any:
    """Build a decode head and wire it to a pyramid.

    Heads of MMSegmentation take the levels `in_index`, the deepest one by default. Any other head takes all levels.

    Args:
        config: registry config of the head.
        in_channels: channels of each level, shallow first.
        in_strides: image pixels per pixel of each level.
        changes: settings laid over those of the config.

    Raises:
        UserError: there is no such head, or `in_index` does not fit it or the pyramid.
    """
    settings = {**config, **changes}
    if is_part_of(config, PyramidDecodeHead):
        return build_part(settings, in_channels=in_channels, in_strides=in_strides)
    chosen = settings.get('in_index')
    if chosen is not None:
        return build_part(settings, in_channels=_channels_at(chosen, in_channels))
    try:
        return build_part(settings, in_channels=in_channels)
    except AssertionError:  # that of BaseDecodeHead, for a head that takes a single level
        pass
    try:
        return build_part(settings, in_channels=in_channels[-1])
    except AssertionError as error:
        if str(error):
            raise
        levels = list(range(len(in_channels)))
        name = getattr(look_up(config['type']), '__name__', 'the head')
        raise UserError(f'{name} takes several levels, and in_index is missing; give in_index={levels}') from error


def _channels_at(chosen: int | Sequence[int], in_channels: Sequence[int]) -> int | list[int]:
    try:
        return [in_channels[index] for index in chosen] if isinstance(chosen, Sequence) else in_channels[chosen]
    except IndexError:
        raise UserError(
            f'in_index={chosen}: the pyramid has {len(in_channels)} levels; give some of 0 to {len(in_channels) - 1}'
        ) from None


def build_auxiliary_heads(
    configs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    head: Any,
    in_channels: Sequence[int],
    in_strides: Sequence[int],
) -> ModuleDict:
    """Build decode heads that learn the same classes as another, by the names under which their losses are told.

    Args:
        configs: of one head, `auxiliary_head`, or of several, `auxiliary_head_<i>`; None for none.
        head: that predicts; the others get its `num_classes` and `ignore_index`.
        in_channels: channels of each level, shallow first.
        in_strides: image pixels per pixel of each level.

    Raises:
        UserError: one is not a plain decode head, or is to learn other classes, or see `build_decoder`.
    """
    built = ModuleDict()
    if configs is None:
        return built
    if isinstance(configs, Mapping):
        named = {'auxiliary_head': configs}
    else:
        named = {f'auxiliary_head_{index}': config for index, config in enumerate(configs)}
    wired = dict(num_classes=head.num_classes, ignore_index=head.ignore_index)
    for name, config in named.items():
        for key, value in wired.items():
            if config.get(key, value) != value:
                raise UserError(f'{name}.{key}={config[key]}, that of decode_head is {value}; leave it out')
        kind = look_up(config.get('type'))
        if isinstance(kind, type) and (not issubclass(kind, BaseDecodeHead) or issubclass(kind, BaseCascadeDecodeHead)):
            raise UserError(
                f'{name}: {kind.__name__} does not learn classes from a pyramid alone; give one such as mmseg.FCNHead'
            )
        built[name] = build_decoder(config, in_channels, in_strides, **wired)
    return built
