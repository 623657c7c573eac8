"""The encoder of Swin-UNet."""

from collections.abc import Sequence

from timm.layers import calculate_drop_path_rates
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.swin import init_linear, swin_blocks
from mmgfnuc.registry import MODELS

from .base import Backbone

PATCH = 4


@MODELS.register_module()
class SwinUNetEncoder(Backbone):
    """Image -> pyramid of a Swin transformer: 4x4 patches, then stages of shifted-window attention, halved in between.

    It is timm's Swin transformer under timm's parameter names, with blocks that are right at any image size (see
    `SwinBlock`). The last level is normalised. Each level is the output of its stage, as in the paper's figure 1; the
    authors' code takes the skips from the inputs of the stages.

    Args:
        in_channels: channels of the image.
        embed_dim: channels of level 0; each further level has twice as many.
        depths: blocks of each level, shallow first.
        num_heads: attention heads of each level.
        window_size: side of an attention window (tokens).
        drop_path_rate: probability that a sample skips a residual branch in training, rising from 0 to this in the
            last block.
        mean: subtracted from the image in [0, 1], one number or one per channel.
        std: divides the image after `mean` is subtracted.

    Shape:
        (B, in_channels, H, W) -> level i: (B, embed_dim * 2**i, ceil(H / 2**(i + 2)), ceil(W / 2**(i + 2)))

    Raises:
        UserError: `depths` and `num_heads` differ in length, or heads do not divide the channels of their level.

    Source: Cao et al. 2021, "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation", section 3; depths
    and drop path of the authors' configuration `swin_tiny_patch4_window7_224_lite`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        drop_path_rate: float = 0.2,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        init_cfg: dict | None = None,
    ) -> None:
        if len(depths) != len(num_heads):
            raise UserError(
                f'depths={tuple(depths)} has {len(depths)} levels, num_heads={tuple(num_heads)} has {len(num_heads)}; '
                'give one entry per level in both'
            )
        channels = [embed_dim * 2**level for level in range(len(depths))]
        for width, heads in zip(channels, num_heads, strict=True):
            if width % heads:
                raise UserError(
                    f'num_heads={tuple(num_heads)}: {heads} does not divide the {width} channels of its level'
                )
        strides = [PATCH * 2**level for level in range(len(depths))]
        # Sides that are multiples of the deepest stride: else timm's patch merging would pad with zeros.
        super().__init__(in_channels, channels, strides, mean, std, multiple=strides[-1], init_cfg=init_cfg)
        self.swin = SwinTransformer(
            patch_size=PATCH,
            in_chans=in_channels,
            num_classes=0,
            embed_dim=embed_dim,
            # timm's own blocks fit one image size only; ours take their place below.
            depths=[0] * len(depths),
            num_heads=num_heads,
            window_size=window_size,
            strict_img_size=False,
        )
        rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        for level, stage in enumerate(self.swin.layers):
            stage.blocks = swin_blocks(channels[level], num_heads[level], window_size, rates[level])
        self.swin.apply(init_linear)
        # Tells MMEngine not to call timm's own `init_weights` a second time.
        self.swin.is_init = True

    def encode(self, images: Tensor) -> list[Tensor]:
        """Encode normalised images."""
        return self.swin.forward_intermediates(images, norm=True, intermediates_only=True)
