"""The residual U-block of U2-Net."""

import torch
from torch import Tensor, nn

from .conv import ConvNormAct
from .resize import resize

DILATED_HEIGHT = 4
DILATED_LEVELS = 2


class RSU(nn.Module):
    """Residual U-block: a small U-Net added to the features that enter it, `f(x) + U(f(x))`.

    The small U-Net has `height - 1` convolutions on its way down, one below them and `height - 1` on its way up.
    It halves the size between those on the way down (RSU-L) or keeps it and doubles the dilation (RSU-LF).

    Args:
        in_channels: channels of the input.
        mid_channels: channels inside the small U-Net.
        out_channels: channels of the output.
        height: L, the number of convolutions from the top to the bottom.
        dilated: RSU-LF instead of RSU-L.

    Shape:
        (B, in_channels, H, W) -> (B, out_channels, H, W)

    Source: Qin et al. 2020, "U2-Net", section 3.1 (convolution biases before the norms left out).
    """

    def __init__(
        self, in_channels: int, mid_channels: int, out_channels: int, height: int, dilated: bool = False
    ) -> None:
        super().__init__()
        dilations = [2**step if dilated else 1 for step in range(height - 1)]
        down = [out_channels] + [mid_channels] * (height - 1)
        up = [mid_channels] * (height - 2) + [out_channels]
        self.enter = ConvNormAct(in_channels, out_channels)
        self.down = nn.ModuleList(ConvNormAct(down[i], down[i + 1], dilation=dilations[i]) for i in range(height - 1))
        self.bottom = ConvNormAct(mid_channels, mid_channels, dilation=2 ** (height - 1) if dilated else 2)
        self.up = nn.ModuleList(
            ConvNormAct(2 * mid_channels, channels, dilation=dilation)
            for channels, dilation in zip(up, reversed(dilations), strict=True)
        )
        # ceil_mode: odd sizes need no padding.
        self.pool = nn.Identity() if dilated else nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """Enter, go down and up, add."""
        entered = self.enter(x)
        y = self.down[0](entered)
        skips = [y]
        for conv in self.down[1:]:
            y = conv(self.pool(y))
            skips.append(y)
        y = self.bottom(y)
        for conv, skip in zip(self.up, reversed(skips), strict=True):
            y = conv(torch.cat([resize(y, skip.shape[-2:]), skip], dim=1))
        return entered + y


def rsu_of_level(level: int, num_levels: int, in_channels: int, mid_channels: int, out_channels: int) -> RSU:
    """Build the block of one pyramid level: RSU-7, 6, 5, 4, 4F, 4F in the six levels of U2-Net.

    For any number of levels: no block halves the size beyond that of the deepest level, `height = num_levels + 1 -
    level`; in the two deepest levels, where nothing is left to halve, the block is dilated instead.

    Source: Qin et al. 2020, "U2-Net", section 3.2; for other numbers of levels own.
    """
    dilated = level >= num_levels - DILATED_LEVELS
    height = DILATED_HEIGHT if dilated else num_levels + 1 - level
    return RSU(in_channels, mid_channels, out_channels, height, dilated)
