"""Vision transformers of timm as foundation encoders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import Eva, VisionTransformer
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import pad_to_multiple
from mmgfnuc.models.layers.timm_models import create_for_any_size, patch_stride

from .base import FoundationEncoder
from .catalogue import Entry
from .formats import load_published


class PlainlyResampledViT(VisionTransformer):
    """timm's ViT whose position embeddings are resampled bicubically, without antialiasing.

    With n rows (columns alike) of tokens and m stored ones the step between tokens is m / (n + `offset`) stored ones.

    Source: `interpolate_pos_encoding` of transformers' Dinov2Model, CLIPVisionModel and SiglipVisionModel (offset 0),
    and of DINOv2's vision_transformer.py (offset 0.1, there against rounding errors).
    """

    offset = 0.0

    def _pos_embed(self, x: Tensor) -> Tensor:
        grid, channels = x.shape[1:3], x.shape[3]
        prefix = [token.expand(len(x), -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
        own = 0 if self.no_embed_class else self.num_prefix_tokens
        before, patches = self.pos_embed[:, :own], self.pos_embed[:, own:]
        stored = self.patch_embed.grid_size
        if tuple(grid) != tuple(stored):
            square = patches.reshape(1, *stored, channels).permute(0, 3, 1, 2)
            if self.offset:
                scales = [(new + self.offset) / old for new, old in zip(grid, stored, strict=True)]
                resampled = F.interpolate(square.float(), scale_factor=scales, mode='bicubic', align_corners=False)
            else:
                resampled = F.interpolate(square.float(), tuple(grid), mode='bicubic', align_corners=False)
            patches = resampled.to(patches.dtype).flatten(2).transpose(1, 2)
        x = torch.cat([*prefix, x.flatten(1, 2) + patches], dim=1)
        if own:
            x = torch.cat([x[:, :own] + before, x[:, own:]], dim=1)
        return self.pos_drop(x)


class TimmViTEncoder(FoundationEncoder):
    """A ViT of timm, with the settings of its entry.

    Images are padded on the right and below to a multiple of the patch, and the position embedding is resampled to
    the grid by the entry's rule. The final norm is applied to every layer.

    Args:
        out_layers: indices of the blocks whose output is used, negative from the last.
        arch: timm's keyword arguments instead of the entry's, such as `depth` and `embed_dim`.

    Shape:
        (B, 3, H, W) -> one (B, D, ceil(H / patch), ceil(W / patch)) for each layer

    Source: Wightman, "PyTorch Image Models" (timm), `forward_intermediates`.
    """

    def build(self, entry: Entry, arch: dict[str, Any], out_layers: Sequence[int | str] | None) -> None:
        """Build timm's model."""
        vit = create_for_any_size(entry.arch, **{**entry.settings, **arch})
        assert isinstance(vit, VisionTransformer | Eva), entry.arch
        if entry.resampling is not None and not entry.resampling.antialias:
            vit.__class__ = PlainlyResampledViT
            vit.offset = entry.resampling.offset
        depth = len(vit.blocks)
        # With another depth the entry's layers need not exist: then the last is used.
        default = entry.layers if depth == entry.depth else (depth - 1,)
        layers = default if out_layers is None else out_layers
        outside = [layer for layer in layers if not (isinstance(layer, int) and -depth <= layer < depth)]
        if outside or not layers:
            raise UserError(f"out_layers={list(layers)}: '{entry.name}' has layers 0 to {depth - 1}")
        self.network = vit
        self.out_layers = sorted({int(layer) % depth for layer in layers})
        self.out_channels = (vit.embed_dim,) * len(self.out_layers)
        self.out_strides = (patch_stride(vit),) * len(self.out_layers)
        # Heads and poolers are not part of the encoder.
        vit.prune_intermediate_layers(depth, prune_norm=False, prune_head=True)

    def load_file(self, path: Path) -> None:
        """Load a file in any of the formats of its publishers, see `to_timm`."""
        load_published(self.network, path, self.entry.config_key)

    def prune(self) -> None:
        """Drop the blocks after the last one used."""
        self.network.prune_intermediate_layers(self.out_layers, prune_norm=False, prune_head=False)

    def use_grad_checkpointing(self) -> None:
        """Let timm keep only the inputs of the blocks."""
        self.network.set_grad_checkpointing(True)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the embeddings, i + 1 for block i, then the final norm."""
        if parameter.startswith('blocks.'):
            return int(parameter.split('.')[1]) + 1
        return self.num_layers - 1 if parameter.startswith('norm.') else 0

    @property
    def num_layers(self) -> int:
        """Embeddings, blocks, final norm."""
        return len(self.network.blocks) + 2

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the transformer up to the last chosen layer."""
        return tuple(
            self.network.forward_intermediates(
                pad_to_multiple(images, self.out_strides[0]),
                indices=self.out_layers,
                norm=True,
                intermediates_only=True,
            )
        )
