"""The hybrid encoder of TransUNet."""

from collections.abc import Sequence
from functools import partial

from timm.layers import GroupNormAct, StdConv2dSame
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS

from .base import Backbone


@MODELS.register_module()
class TransUNetEncoder(Backbone):
    """Image -> local pyramid of a ResNet, and a vision transformer on its deepest map as the last level.

    The two parts of timm's hybrid `vit_base_r50_s16_224`, without a class token: a ResNet-50 of three stages with
    standardised convolutions and group normalisation, and a ViT-B on 1x1 patches of its output. The levels are the
    ResNet's stem and stages, with the transformer's output in place of the last stage. The position embedding is
    resampled to the image's grid (bicubic, antialiased).

    Args:
        in_channels: channels of the image.
        stem_channels: channels of level 0, a multiple of 8.
        stage_channels: channels of the ResNet stages, multiples of 8; a block is four times narrower inside.
        stage_depths: blocks of each ResNet stage.
        norm_groups: groups of the group normalisation.
        embed_dim: channels of the transformer, the last level.
        depth: blocks of the transformer.
        num_heads: attention heads.
        image_size: side of the images whose grid the position embedding is stored at (pixels).
        dropout: of the transformer, in training.
        mean: subtracted from the image in [0, 1], one number or one per channel.
        std: divides the image after `mean` is subtracted.

    Shape:
        (B, in_channels, H, W) -> level i: (B, out_channels[i], ceil(H / 2**(i + 1)), ceil(W / 2**(i + 1)))

    Raises:
        UserError: channel counts that heads, groups or timm cannot divide, or lists that differ in length.

    Source: Chen et al. 2021, "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", section
    3.2; Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", the hybrid architecture.
    """

    def __init__(
        self,
        in_channels: int = 3,
        stem_channels: int = 64,
        stage_channels: Sequence[int] = (256, 512, 1024),
        stage_depths: Sequence[int] = (3, 4, 9),
        norm_groups: int = 32,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        image_size: int = 224,
        dropout: float = 0.1,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        init_cfg: dict | None = None,
    ) -> None:
        _check_stages(stem_channels, stage_channels, stage_depths, norm_groups)
        if embed_dim % num_heads:
            raise UserError(f'embed_dim={embed_dim} is not a multiple of num_heads={num_heads}; change one of them')
        channels = [stem_channels, *stage_channels[:-1], embed_dim]
        strides = [2 ** (level + 1) for level in range(len(channels))]
        stride = strides[-1]
        if image_size % stride:
            raise UserError(f'image_size={image_size} is not a multiple of {stride}, the deepest stride (pixels)')
        super().__init__(in_channels, channels, strides, mean, std, multiple=stride, init_cfg=init_cfg)
        self.cnn = ResNetV2(
            layers=stage_depths,
            channels=stage_channels,
            num_classes=0,
            in_chans=in_channels,
            global_pool='',
            stem_chs=stem_channels,
            stem_type='same',
            preact=False,
            conv_layer=partial(StdConv2dSame, eps=1e-8),
            norm_layer=partial(GroupNormAct, num_groups=norm_groups),
        )
        self.vit = VisionTransformer(
            img_size=image_size // stride,
            patch_size=1,
            in_chans=stage_channels[-1],
            num_classes=0,
            global_pool='',
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            class_token=False,
            dynamic_img_size=True,
            pos_drop_rate=dropout,
            proj_drop_rate=dropout,
        )
        # timm initialises both on construction. This keeps MMEngine from calling their `init_weights` again: that of
        # the ResNet would set the last norm of each block to zero.
        self.cnn.is_init = self.vit.is_init = True

    def encode(self, images: Tensor) -> list[Tensor]:
        """Encode normalised images."""
        *skips, deepest = self.cnn.forward_intermediates(images, intermediates_only=True)
        return [*skips, *self.vit.forward_intermediates(deepest, indices=1, norm=True, intermediates_only=True)]


def _check_stages(stem_channels: int, channels: Sequence[int], depths: Sequence[int], norm_groups: int) -> None:
    if len(channels) != len(depths):
        raise UserError(
            f'stage_channels={tuple(channels)} has {len(channels)} stages, stage_depths={tuple(depths)} has '
            f'{len(depths)}; give one entry per stage in both'
        )
    # timm would round other widths silently; a block is a quarter as wide inside, at least 8.
    for name, width in [('stem_channels', stem_channels), *(('stage_channels', width) for width in channels)]:
        if width % 8 or width % norm_groups:
            raise UserError(
                f'{name}: {width} must be a multiple of 8 and of norm_groups={norm_groups}; '
                'change the width or norm_groups'
            )
