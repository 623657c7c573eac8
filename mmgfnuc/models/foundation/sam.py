"""The image encoder of Segment Anything."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import pad_to_multiple
from mmgfnuc.models.weights.files import load_exactly, read_state_dict
from mmgfnuc.models.weights.locate import RANDOM

from .base import FoundationEncoder
from .catalogue import Entry
from .sam_attention import use_fused_attention

# Source: segment-anything, `build_sam.py`.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    'vit_b': dict(embed_dim=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11)),
    'vit_l': dict(embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23)),
    'vit_h': dict(embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31)),
}
COMMON: dict[str, Any] = dict(mlp_ratio=4, qkv_bias=True, use_rel_pos=True, window_size=14)
# The other parts of an official SAM file.
OTHER_PARTS = ('prompt_encoder.', 'mask_decoder.')
PREFIX = 'image_encoder.'
NECK = 'neck'
NECK_CHANNELS = 256


class SAMEncoder(FoundationEncoder):
    """SAM's ViT (segment-anything) with its neck embedding and/or the outputs of chosen blocks.

    With `input_size=1024` images are prepared as SAM itself does: longer side to 1024, normalised, padded with zeros
    to a square; features of the padding are cropped off. With `input_size=None` images are taken as given, padded to
    a multiple of 16, and the position embeddings are resampled to the grid (bicubic; the relative ones linear).
    Attention is faster and takes less memory than in segment-anything, see FusedAttention.

    Args:
        out_layers: block indices (negative from the last) and/or `neck`.
        arch: keyword arguments of `ImageEncoderViT` instead of the entry's.

    Shape:
        (B, 3, H, W) -> blocks: (B, embed_dim, h, w); neck: (B, 256, h, w); 64x64 for a square image at 1024

    Source: Kirillov et al. 2023, "Segment Anything"; package segment-anything.
    """

    def build(self, entry: Entry, arch: dict[str, Any], out_layers: Sequence[int | str] | None) -> None:
        """Build segment-anything's encoder."""
        settings = COMMON | ARCHITECTURES[entry.arch] | {'img_size': entry.native_size} | arch
        self.out_layers = _resolve_layers(entry.layers if out_layers is None else out_layers, settings['depth'])
        width = settings['embed_dim']
        self.out_channels = tuple(NECK_CHANNELS if layer == NECK else width for layer in self.out_layers)
        self.out_strides = (entry.patch,) * len(self.out_layers)
        self.network = ImageEncoderViT(
            patch_size=entry.patch, out_chans=NECK_CHANNELS, norm_layer=partial(nn.LayerNorm, eps=1e-6), **settings
        )
        self.checkpointed = False
        use_fused_attention(self.network)
        if self.weights == RANDOM:
            _fill_positions(self.network)

    def load_file(self, path: Path) -> None:
        """Load an official SAM file, only the image encoder of one, or timm's copy."""
        state = read_state_dict(path)
        encoder = {key.removeprefix(PREFIX): value for key, value in state.items() if not key.startswith(OTHER_PARTS)}
        # timm's name for the layers of the MLP.
        encoder = {key.replace('.mlp.fc', '.mlp.lin'): value for key, value in encoder.items()}
        load_exactly(self.network, encoder, path, self.entry.config_key)

    def prune(self) -> None:
        """Drop the blocks after the last one used, and the neck if it is not used."""
        if NECK not in self.out_layers:
            self.network.blocks = self.network.blocks[: int(self.out_layers[-1]) + 1]
            self.network.neck = nn.Identity()

    def use_grad_checkpointing(self) -> None:
        """Let `encode` keep only the inputs of the blocks."""
        self.checkpointed = True

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the embeddings, i + 1 for block i, then the neck."""
        if parameter.startswith('blocks.'):
            return int(parameter.split('.')[1]) + 1
        return self.num_layers - 1 if parameter.startswith('neck.') else 0

    @property
    def num_layers(self) -> int:
        """Embeddings, blocks, neck."""
        return len(self.network.blocks) + 2

    def _pad(self, images: Tensor) -> Tensor:
        if self.input_size is None:
            return pad_to_multiple(images, self.entry.patch)
        height, width = images.shape[-2:]
        return F.pad(images, (0, self.input_size - width, 0, self.input_size - height))

    def _position_embedding(self, grid: tuple[int, int]) -> Tensor:
        position = self.network.pos_embed
        if tuple(position.shape[1:3]) == grid:
            return position
        resampled = F.interpolate(position.movedim(-1, 1), grid, mode='bicubic', align_corners=False, antialias=True)
        return resampled.movedim(1, -1)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the blocks up to the last one needed, and the neck if asked for."""
        x = self.network.patch_embed(self._pad(images))
        # From the layout of convolutions to that of tokens, once and not in every norm.
        x = (x + self._position_embedding((x.shape[1], x.shape[2]))).contiguous()
        features = []
        for index, block in enumerate(self.network.blocks):
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed and self.training else block(x)
            if index in self.out_layers:
                features.append(x.movedim(-1, 1))
        if NECK in self.out_layers:
            features.append(self.network.neck(x.movedim(-1, 1)))
        return tuple(features)


def _fill_positions(network: nn.Module) -> None:
    """Draw the position embeddings, which segment-anything leaves at zero: a random encoder should see places."""
    for name, parameter in network.named_parameters():
        if 'pos' in name:
            nn.init.trunc_normal_(parameter, std=0.02)


def _resolve_layers(out_layers: Sequence[int | str], depth: int) -> list[int | str]:
    """Block indices in ascending order, then `neck`."""
    unknown = [
        layer for layer in out_layers if layer != NECK and not (isinstance(layer, int) and -depth <= layer < depth)
    ]
    if unknown or not out_layers:
        raise UserError(f"out_layers={list(out_layers)}: give block indices 0 to {depth - 1} and/or '{NECK}'")
    blocks: list[int | str] = sorted({layer % depth for layer in out_layers if isinstance(layer, int)})
    return blocks + [NECK] * (NECK in out_layers)
