"""The one-line API over the presets of `configs/_base_`."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import list_foundation
from mmgfnuc.names import find_preset, list_presets
from mmgfnuc.registry import MODELS

from .parts import check_part

__all__ = ['create_model', 'list_foundation', 'list_fusions', 'list_heads', 'list_unets']


def list_unets() -> list[str]:
    """Names that `create_model(unet=...)` takes."""
    return list(list_presets('unets'))


def list_fusions() -> list[str]:
    """Names that `create_model(fusion=...)` takes."""
    return list(list_presets('fusion'))


def list_heads() -> list[str]:
    """Names that `create_model(head=...)` takes."""
    return list(list_presets('heads'))


def create_model(
    unet: str = 'unet',
    foundation: str | Mapping[str, Any] | None = None,
    fusion: str = 'none',
    head: str = 'semantic',
    num_classes: int = 2,
    in_channels: int = 3,
    weights: str | None = None,
    parts: Mapping[str, Mapping[str, Any]] | None = None,
) -> nn.Module:
    """Build a segmentation model from presets: a U-Net, a foundation encoder fused into it, and a head.

    >>> model = create_model('unet', parts={'backbone': {'widths': (8, 16, 32)}})
    >>> model(torch.rand(1, 3, 100, 140)).shape
    torch.Size([1, 2, 100, 140])

    The presets are the files of `configs/_base_/`, the same that configs are made of.

    Train it with a loss of your own on its logits, or with that of its head:

    >>> truth = PixelData(data=torch.randint(0, 2, (1, 100, 140)))
    >>> losses = model(torch.rand(1, 3, 100, 140), [SegDataSample(gt_sem_seg=truth)], mode='loss')
    >>> sorted(losses)
    ['acc_seg', 'loss_dice_focal']

    (`PixelData` is MMEngine's, `SegDataSample` MMSegmentation's.) Heads but `semantic` also learn from a map that the
    transform `model.decode_head.target` makes of an instance map. Any head gives nuclei:

    >>> (sample,) = model.eval()(torch.rand(1, 3, 100, 140), mode='predict')
    >>> sample.pred_instance_map.data.shape
    torch.Size([1, 100, 140])

    Only the latter trains the side outputs of unet3+.
    With a loss of your own leave them out, so that no parameter goes without a gradient:
    `parts={'decode_head': {'deep_supervision': False, 'classification_guided': False}}`.

    Args:
        unet: one of `list_unets()`.
        foundation: one of `list_foundation()`, such as `dinov2-vit-b14`, or `timm:<name>`; or the registry config of an
            encoder, where it needs settings of its own; None for a U-Net alone.
        fusion: one of `list_fusions()`. Under `shuffled-context-image` the model takes (B, 6, H, W): each image, then
            the one whose context it gets.
        head: one of `list_heads()`: what tells touching nuclei apart.
        num_classes: softmax channels: background, nucleus (or more nucleus types).
        in_channels: channels of the images; 3 where there is a foundation encoder.
        weights: of the foundation encoder: a file, a folder, a name in `$MMGFNUC_WEIGHTS`, or `random`. None finds
            those of its entry there or on the Hugging Face hub.
        parts: settings laid over those of the presets, for `backbone`, `decode_head`, `foundation`, `neck` and
            `head`, such as `{'neck': {'levels': 'all', 'block': {'num_heads': 8}}}`.

    Shape:
        the model: (B, in_channels, H, W) in [0, 1] -> logits (B, num_classes, H, W), and after them the channels of the
        head's auxiliary maps: 1 of `dual-decoder` and `boundary`, 2 of `hover`

    Raises:
        UserError: a name is unknown, a part does not take a setting, or the arguments do not fit together. What else a
            part raises passes through.
    """
    return MODELS.build(model_config(unet, foundation, fusion, head, num_classes, in_channels, weights, parts))


def model_config(
    unet: str,
    foundation: str | Mapping[str, Any] | None,
    fusion: str,
    head: str,
    num_classes: int,
    in_channels: int,
    weights: str | None,
    parts: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """Return the registry config of the model that `create_model` builds of the same arguments.

    Raises:
        UserError: a name is unknown, a part does not take a setting, or the arguments do not fit together.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise UserError(
            f'num_classes={num_classes!r}: background and nucleus are two softmax channels; give a whole number from 2'
        )
    settings = _preset('unets', 'unet', unet)
    fused = _preset('fusion', 'fusion', fusion)
    if (foundation is None) != (fused['neck'] is None):
        given = f"fusion='{fusion}'" if foundation is None else f"foundation='{foundation}' with fusion='none'"
        raise UserError(f'{given}: give both a foundation encoder and a fusion, or neither')
    settings |= fused | {'head': _preset('heads', 'head', head)['head']}
    if foundation is not None:
        if in_channels != 3:
            raise UserError(f'in_channels={in_channels}: foundation encoders take RGB images; give 3, or no foundation')
        named = dict(type='mmgfnuc.foundation_encoder', name=foundation)
        encoder = dict(foundation) if isinstance(foundation, Mapping) else named
        settings['foundation'] = encoder | ({} if weights is None else {'weights': weights})
    elif weights is not None:
        raise UserError(f"weights='{weights}' are those of a foundation encoder, and none is given; drop them")
    settings['backbone']['in_channels'] = in_channels
    settings['head']['num_classes'] = num_classes
    for part, changes in _as_mapping('parts', parts or {}).items():
        if not isinstance(settings.get(part), dict):
            raise UserError(f"parts has '{part}', which the model lacks; it has {', '.join(_parts(settings))}")
        settings[part] = _laid_over(settings[part], _as_mapping(f"parts['{part}']", changes))
    for part in _parts(settings):
        check_part(f'parts.{part}', settings[part], MODELS)
    settings['decode_head'] = {**settings.pop('head'), 'decoder': settings['decode_head']}
    return dict(type='mmgfnuc.FusionSegmentor', **settings)


def _preset(kind: str, argument: str, name: Any) -> dict[str, Any]:
    return Config.fromfile(find_preset(kind, argument, name)).to_dict()


def _as_mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(
            f"{name}={value!r}: give a dict of settings, such as {{'backbone': {{'widths': (16, 32, 64)}}}}"
        )
    return value


def _laid_over(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change some settings, and those within them."""
    merged = dict(settings)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _laid_over(merged[key], value) if nested else value
    return merged


def _parts(settings: dict[str, Any]) -> list[str]:
    return [name for name, value in settings.items() if isinstance(value, dict)]
