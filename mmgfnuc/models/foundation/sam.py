"""The image encoder of Segment Anything."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import pad_to_multiple
from mmgfnuc.models.layers.weights import load_exactly, read_state_dict
from mmgfnuc.registry import MODELS

from .base import CONFIG_KEY, RANDOM, FoundationEncoder
from .sam_attention import use_fused_attention

# Source: segment-anything, `build_sam.py`, and the README for the files.
ARCHITECTURES: dict[str, dict] = {
    'vit_b': dict(embed_dim=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11)),
    'vit_l': dict(embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23)),
    'vit_h': dict(embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31)),
}
OFFICIAL_FILES = {'vit_b': 'sam_vit_b_01ec64.pth', 'vit_l': 'sam_vit_l_0b3195.pth', 'vit_h': 'sam_vit_h_4b8939.pth'}
OFFICIAL_FOLDER = 'https://dl.fbaipublicfiles.com/segment_anything/'
# The other parts of an official SAM file.
OTHER_PARTS = ('prompt_encoder.', 'mask_decoder.')
PREFIX = 'image_encoder.'
PATCH_SIZE = 16
NATIVE_SIZE = 1024
# segment-anything's `Sam`: 123.675, 116.28, 103.53 and 58.395, 57.12, 57.375 out of 255.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
NECK = 'neck'
NECK_CHANNELS = 256


@MODELS.register_module()
class SAMEncoder(FoundationEncoder):
    """SAM's ViT (segment-anything) with its neck embedding and/or the outputs of chosen blocks.

    With `input_size=1024` images are prepared as SAM itself does: longer side to 1024, normalised, padded with zeros
    to a square; features of the padding are cropped off. With `input_size=None` images are taken as given, padded to
    a multiple of 16, and the position embeddings are resampled to the grid (bicubic; the relative ones linear).
    Attention is faster and takes less memory than in segment-anything, see FusedAttention.

    Args:
        weights: a path or a name in `$MMGFNUC_WEIGHTS` of an official `.pth`, or `random`.
        arch: `vit_b`, `vit_l`, `vit_h`, or the keyword arguments of another size of `ImageEncoderViT`.
        input_size: None or the length of the longer side (pixels), a multiple of 16.
        out_layers: block indices (negative from the last) and/or `neck`.
        tune: `frozen` or `full`.

    Shape:
        (B, 3, H, W) -> blocks: (B, embed_dim, h, w); neck: (B, 256, h, w); 64x64 for a square image at 1024

    Source: Kirillov et al. 2023, "Segment Anything"; package segment-anything.
    """

    def __init__(
        self,
        weights: str,
        arch: str | dict = 'vit_b',
        input_size: int | None = NATIVE_SIZE,
        out_layers: Sequence[int | str] = (NECK,),
        tune: str = 'frozen',
    ) -> None:
        super().__init__(weights, tune, input_size, PATCH_SIZE, MEAN, STD)
        settings = _settings(arch)
        depth = settings['depth']
        self.arch = arch if isinstance(arch, str) else None
        self.out_layers = _resolve_layers(out_layers, depth)
        self.out_channels = tuple(
            NECK_CHANNELS if layer == NECK else settings['embed_dim'] for layer in self.out_layers
        )
        self.vit = ImageEncoderViT(
            img_size=NATIVE_SIZE,
            patch_size=PATCH_SIZE,
            out_chans=NECK_CHANNELS,
            mlp_ratio=4,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            **settings,
        )
        use_fused_attention(self.vit)
        if weights == RANDOM:
            self._fill_positions()
        self._finish_init()
        self._prune()

    def _prune(self) -> None:
        """Drop what comes after the last output: it would cost time and, when tuned, get no gradient."""
        if NECK not in self.out_layers:
            self.vit.blocks = self.vit.blocks[: int(self.out_layers[-1]) + 1]
            self.vit.neck = nn.Identity()

    def _fill_positions(self) -> None:
        """Draw the position embeddings, which segment-anything leaves at zero: a random encoder should see places."""
        for name, parameter in self.vit.named_parameters():
            if 'pos' in name:
                nn.init.trunc_normal_(parameter, std=0.02)

    @property
    def official_weights(self) -> str:
        """Meta's file for this size."""
        return OFFICIAL_FOLDER + OFFICIAL_FILES.get(self.arch or '', '')

    def load_file(self, path: Path) -> None:
        """Load an official SAM file, or only the image encoder of one."""
        state = read_state_dict(path)
        encoder = {key.removeprefix(PREFIX): value for key, value in state.items() if not key.startswith(OTHER_PARTS)}
        load_exactly(self.vit, encoder, path, CONFIG_KEY)

    def _pad(self, images: Tensor) -> Tensor:
        if self.input_size is None:
            return pad_to_multiple(images, PATCH_SIZE)
        height, width = images.shape[-2:]
        return F.pad(images, (0, self.input_size - width, 0, self.input_size - height))

    def _position_embedding(self, grid: tuple[int, int]) -> Tensor:
        position = self.vit.pos_embed
        if tuple(position.shape[1:3]) == grid:
            return position
        resampled = F.interpolate(position.movedim(-1, 1), grid, mode='bicubic', align_corners=False, antialias=True)
        return resampled.movedim(1, -1)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the blocks up to the last one needed, and the neck if asked for."""
        x = self.vit.patch_embed(self._pad(images))
        x = x + self._position_embedding((x.shape[1], x.shape[2]))
        features = []
        for index, block in enumerate(self.vit.blocks):
            x = block(x)
            if index in self.out_layers:
                features.append(x.movedim(-1, 1))
        if NECK in self.out_layers:
            features.append(self.vit.neck(x.movedim(-1, 1)))
        return tuple(features)


def _settings(arch: str | dict) -> dict:
    if isinstance(arch, str):
        if arch not in ARCHITECTURES:
            raise UserError(f"arch='{arch}' is unknown; choose one of {', '.join(ARCHITECTURES)}")
        return ARCHITECTURES[arch]
    return dict(arch)


def _resolve_layers(out_layers: Sequence[int | str], depth: int) -> list[int | str]:
    """Block indices in ascending order, then `neck`."""
    unknown = [
        layer for layer in out_layers if layer != NECK and not (isinstance(layer, int) and -depth <= layer < depth)
    ]
    if unknown or not out_layers:
        raise UserError(f"out_layers={list(out_layers)}: give block indices 0 to {depth - 1} and/or '{NECK}'")
    blocks: list[int | str] = sorted({layer % depth for layer in out_layers if isinstance(layer, int)})
    return blocks + [NECK] * (NECK in out_layers)
