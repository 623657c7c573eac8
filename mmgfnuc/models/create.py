"""The one-line API over the presets of `configs/_base_`."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmgfnuc.models.foundation import list_foundation
from mmgfnuc.presets import list_presets, model_config, model_parts
from mmgfnuc.registry import MODELS

from .parts import check_part

__all__ = ['create_model', 'list_foundation', 'list_fusions', 'list_heads', 'list_unets']


def list_unets() -> list[str]:
    """Names that `create_model(unet=...)` takes."""
    return list_presets('unets')


def list_fusions() -> list[str]:
    """Names that `create_model(fusion=...)` takes."""
    return list_presets('fusion')


def list_heads() -> list[str]:
    """Names that `create_model(head=...)` takes."""
    return list_presets('heads')


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

    The presets are the files of `configs/_base_/`, the same that configs are made of, and those that were registered
    (`register_unet`, `register_fusion`, `register_head`, `register_encoder`).

    Train it with a loss of your own on its logits, or with that of its head:

    >>> truth = PixelData(data=torch.randint(0, 2, (1, 100, 140)))
    >>> losses = model(torch.rand(1, 3, 100, 140), [SegDataSample(gt_sem_seg=truth)], mode='loss')
    >>> sorted(losses)
    ['acc_seg', 'loss_dice_focal']

    (`PixelData` is MMEngine's, `SegDataSample` MMSegmentation's.) Heads but `semantic` also learn from a map that the
    transform `model.decode_head.target` makes of an instance map. Any head gives nuclei:

    >>> (sample,) = model.eval()(torch.rand(1, 3, 100, 140), mode='predict')
    >>> sample.pred_instance_map.data.shape
    (1, 100, 140)

    Only the latter trains the side outputs of unet3+.
    With a loss of your own leave them out, so that no parameter goes without a gradient:
    `parts={'decode_head': {'deep_supervision': False, 'classification_guided': False}}`.

    Args:
        unet: one of `list_unets()`.
        foundation: one of `list_foundation()`, such as `dinov2-vit-b14`, or `timm:<name>`; or the registry config of an
            encoder, where it needs settings of its own; None for a U-Net alone.
        fusion: one of `list_fusions()`. Under `shuffled-context-image` the model takes (B, 6, H, W): each image, then
            the one whose context it gets.
        head: one of `list_heads()`: what divides touching nuclei.
        num_classes: softmax channels: background, nucleus (or more nucleus types).
        in_channels: channels of the images; 3 where there is a foundation encoder.
        weights: of the foundation encoder: a file, a folder, a name in `$MMGFNUC_WEIGHTS`, or `random`. None finds
            those of its entry there or on the Hugging Face hub.
        parts: settings laid over those of the presets, for `backbone`, `decode_head`, `foundation`, `neck` and
            `head`, such as `{'neck': {'levels': 'all', 'block': {'num_heads': 8}}}`. `_delete_` beside them drops what
            the preset says: `True` all of it, a name or a list of names these settings.

    Shape:
        the model: (B, in_channels, H, W) in [0, 1] -> logits (B, num_classes, H, W), and after them the channels of the
        head's auxiliary maps: 1 of `dual-decoder` and `boundary`, 2 of `hover`

    Raises:
        UserError: a name is unknown, a part does not take a setting, or the arguments do not fit together. What else a
            part raises passes through.
    """
    made = model_parts(unet, foundation, fusion, head, num_classes, in_channels, weights, parts)
    for part, settings in made.items():
        if isinstance(settings, dict):
            check_part(f'parts.{part}', settings, MODELS)
    return MODELS.build(model_config(made))
