"""The U-Net encoder family."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import DoubleConv, MaxBlurPool
from mmgfnuc.registry import MODELS

from .staged import StagedBackbone

DOWNSAMPLINGS: dict[str, Callable[[str], nn.Module]] = {
    # ceil_mode: any image size works without padding, level i has ceil(H / 2**i) rows.
    'max_pool': lambda blur_padding: nn.MaxPool2d(2, ceil_mode=True),
    'max_blur_pool': MaxBlurPool,
}


@MODELS.register_module()
class UNetEncoder(StagedBackbone):
    """Image -> local pyramid: one stage of convolutions per entry of `widths`, halved in size in between.

    The defaults are the original U-Net's. `widths=(32, 64, 128, 256, 512), activation='glu',
    downsampling='max_blur_pool'` is the encoder of eU-Net3+, in the authors' release with `blur_padding='zeros'`.

    Args:
        in_channels: channels of the image.
        widths: channels of each level, shallow first; its length is the depth.
        activation: `relu`, `leaky_relu`, `silu` or `glu`.
        downsampling: `max_pool` or `max_blur_pool`.
        blur_padding: border of the max-blur-pools, `replicate` or `zeros` (the authors' release), see BlurPool.
        convs_per_stage: convolutions of each stage, shallow first; the last number holds for all deeper ones.
        mean: subtracted from the image in [0, 1], one number or one per channel.
        std: divides the image after `mean` is subtracted.

    Shape:
        (B, in_channels, H, W) -> level i: (B, widths[i], ceil(H / 2**i), ceil(W / 2**i))

    Source: Ronneberger et al. 2015, "U-Net"; for eU-Net3+ docs/method.md, section "eU-Net3+".
    """

    # Faster, if the weights have it too (benchmarks/unets.py).
    memory_format = torch.channels_last

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        activation: str = 'relu',
        downsampling: str = 'max_pool',
        blur_padding: str = 'replicate',
        convs_per_stage: Sequence[int] = (2,),
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        init_cfg: dict | None = None,
    ) -> None:
        strides = [2**level for level in range(len(widths))]
        super().__init__(in_channels, widths, strides, mean, std, init_cfg=init_cfg)
        if downsampling not in DOWNSAMPLINGS:
            raise UserError(f"downsampling='{downsampling}' is unknown; choose one of {', '.join(DOWNSAMPLINGS)}")
        if blur_padding != 'replicate' and downsampling != 'max_blur_pool':
            raise UserError(
                f"blur_padding='{blur_padding}' has no meaning for downsampling='{downsampling}', which does not blur; "
                "drop it, or take downsampling='max_blur_pool'"
            )
        if not convs_per_stage or min(convs_per_stage) < 1:
            raise UserError(f'convs_per_stage={tuple(convs_per_stage)}: give numbers from 1')
        convs = [*convs_per_stage, *[convs_per_stage[-1]] * len(widths)]
        channels = [in_channels, *widths]
        self.stages = nn.ModuleList(
            DoubleConv(channels[i], channels[i + 1], activation, convs[i]) for i in range(len(widths))
        )
        self.downsample = DOWNSAMPLINGS[downsampling](blur_padding)
        self.to(memory_format=self.memory_format)

    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """Make a level from the one above it, level 0 from normalised images."""
        x = self.downsample(x) if level else x.contiguous(memory_format=self.memory_format)
        return self.stages[level](x)
