"""The tokenized MLP of UNeXt."""

import math

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

SHIFT_GROUPS = 5
HEIGHT, WIDTH = 2, 3


def shift_channels(x: Tensor, dim: int) -> Tensor:
    """Move channels along one spatial axis: group g of five by g - 2 pixels; zeros move in.

    The groups have `ceil(C / 5)` channels, the last has what is left.

    Shape:
        (B, C, H, W) -> (B, C, H, W); `dim` is 2 (along the height) or 3 (along the width).

    Source: Valanarasu and Patel 2022, "UNeXt", section 2, "Shifted MLP".
    """
    reach = SHIFT_GROUPS // 2
    padded = F.pad(x, (0, 0, reach, reach) if dim == HEIGHT else (reach, reach))
    groups = padded.chunk(SHIFT_GROUPS, dim=1)
    size = x.shape[dim]
    return torch.cat([group.narrow(dim, 2 * reach - g, size) for g, group in enumerate(groups)], dim=1)


class ShiftedMLP(nn.Module):
    """`W_2 shift_w(GELU(dw(W_1 shift_h(x))))`: an MLP over the channels of each pixel, its inputs shifted.

    dw is a depthwise 3x3 convolution; it also gives the MLP the position of a pixel. Initialised as in the authors'
    code.

    Shape:
        (B, channels, H, W) -> (B, channels, H, W)

    Source: Valanarasu and Patel 2022, "UNeXt", section 2, "Tokenized MLP Stage", as in the authors' code: it shifts
    along the height first and is `channels` wide inside, where the paper's text says the width and 768.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(channels, channels, 1)
        for fc in (self.fc1, self.fc2):
            nn.init.trunc_normal_(fc.weight, std=0.02)
        nn.init.normal_(self.depthwise.weight, std=math.sqrt(2 / 9))
        for name, parameter in self.named_parameters():
            if name.endswith('bias'):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Mix channels and neighbours."""
        x = self.act(self.depthwise(self.fc1(shift_channels(x, HEIGHT))))
        return self.fc2(shift_channels(x, WIDTH))


class TokenizedMLP(nn.Module):
    """`LN(x + ShiftedMLP(LN(x)))`; LN is layer normalisation over the channels of a pixel.

    Shape:
        (B, channels, H, W) -> (B, channels, H, W)

    Source: Valanarasu and Patel 2022, "UNeXt", section 2, "Tokenized MLP Stage"; the first LN from the authors' code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_in = LayerNorm2d(channels, eps=1e-5)
        self.mlp = ShiftedMLP(channels)
        self.norm_out = LayerNorm2d(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Mix, add, normalise."""
        return self.norm_out(x + self.mlp(self.norm_in(x)))
