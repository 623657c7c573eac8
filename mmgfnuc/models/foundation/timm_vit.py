"""Any vision transformer of timm as a foundation encoder."""

from collections.abc import Sequence
from pathlib import Path

import timm
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import pad_to_multiple
from mmgfnuc.models.layers.timm_models import check_timm_name, load_timm_weights, timm_weights_page
from mmgfnuc.registry import MODELS

from .base import CONFIG_KEY, FoundationEncoder


@MODELS.register_module()
class TimmViTEncoder(FoundationEncoder):
    """A timm ViT by name; mean, std and patch size are those of timm's entry.

    Images are padded on the right and below to a multiple of the patch, and the position embedding is resampled to
    the grid (timm's `dynamic_img_size`).

    Args:
        model_name: timm's name, such as `vit_tiny_patch16_224`.
        weights: a path, a name in `$MMGFNUC_WEIGHTS` (timm's key names), or `random`.
        out_layers: indices of the blocks whose output is used, negative from the last. The final norm is applied.
        arch: timm's keyword arguments for another size of the architecture, such as `depth` and `embed_dim`.
        tune: `frozen` or `full`.
        input_size: None takes images as given; a number scales their longer side to it first (pixels).

    Shape:
        (B, 3, H, W) -> one (B, D, ceil(H / patch), ceil(W / patch)) for each layer

    Source: Wightman, "PyTorch Image Models" (timm), `forward_intermediates`.
    """

    def __init__(
        self,
        model_name: str,
        weights: str,
        out_layers: Sequence[int] = (-1,),
        arch: dict | None = None,
        tune: str = 'frozen',
        input_size: int | None = None,
    ) -> None:
        vit = _create(model_name, arch or {})
        entry = vit.pretrained_cfg
        super().__init__(weights, tune, input_size, vit.patch_embed.feat_ratio(), entry['mean'], entry['std'])
        depth = len(vit.blocks)
        outside = [layer for layer in out_layers if not -depth <= layer < depth]
        if outside or not out_layers:
            raise UserError(f'out_layers={list(out_layers)}: {model_name} has layers 0 to {depth - 1}')
        self.vit = vit
        self.model_name = model_name
        self.out_layers = sorted({layer % depth for layer in out_layers})
        self.out_channels = (vit.embed_dim,) * len(self.out_layers)
        self._finish_init()
        # Blocks after the last chosen one would cost time and, when tuned, get no gradient.
        self.vit.prune_intermediate_layers(self.out_layers, prune_norm=False, prune_head=True)

    @property
    def official_weights(self) -> str:
        """Hugging Face page of timm's entry."""
        return timm_weights_page(self.vit)

    def load_file(self, path: Path) -> None:
        """Load a state dict with timm's key names; the classifier is left out."""
        load_timm_weights(self.vit, path, CONFIG_KEY)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the transformer up to the last chosen layer."""
        return tuple(
            self.vit.forward_intermediates(
                pad_to_multiple(images, self.patch_size), indices=self.out_layers, norm=True, intermediates_only=True
            )
        )


def _create(model_name: str, arch: dict) -> timm.models.VisionTransformer | timm.models.Eva:
    check_timm_name(model_name, 'model.foundation.model_name')
    try:
        vit = timm.create_model(model_name, pretrained=False, num_classes=0, dynamic_img_size=True, **arch)
    except TypeError:
        vit = None
    # Most other architectures refuse `dynamic_img_size`, but Swin takes it.
    if not isinstance(vit, timm.models.VisionTransformer | timm.models.Eva):
        raise UserError(f"timm's '{model_name}' is not a ViT with a variable image size; for SAM use SAMEncoder")
    return vit
