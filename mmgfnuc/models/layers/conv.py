"""Convolution blocks shared by encoders and decoders."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.errors import UserError


class ChannelGLU(nn.Module):
    """Gated linear unit over channels: the first half times the sigmoid of the second half.

    With the convolution before it this is `(W_l x + b_l) * sigmoid(W_g x + b_g)`.

    Shape:
        (B, 2C, H, W) -> (B, C, H, W)

    Source: Dauphin et al. 2017, "Language Modeling with Gated Convolutional Networks", eq. 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Halve the channels."""
        return F.glu(x, dim=1)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    'relu': lambda: nn.ReLU(inplace=True),
    'leaky_relu': lambda: nn.LeakyReLU(0.01, inplace=True),
    'silu': lambda: nn.SiLU(inplace=True),
    'glu': ChannelGLU,
}


class ConvNormAct(nn.Sequential):
    """Convolution that keeps the size, batch normalisation, activation; `glu` convolves to twice the channels first.

    The convolution has no bias: batch normalisation would remove it.

    Shape:
        (B, in_channels, H, W) -> (B, out_channels, H, W)
    """

    def __init__(
        self, in_channels: int, out_channels: int, activation: str = 'relu', kernel_size: int = 3, dilation: int = 1
    ) -> None:
        if activation not in ACTIVATIONS:
            raise UserError(f"activation='{activation}' is unknown; choose one of {', '.join(ACTIVATIONS)}")
        conv_channels = 2 * out_channels if activation == 'glu' else out_channels
        padding = dilation * (kernel_size // 2)
        super().__init__(
            nn.Conv2d(in_channels, conv_channels, kernel_size, padding=padding, dilation=dilation, bias=False),
            nn.BatchNorm2d(conv_channels),
            ACTIVATIONS[activation](),
        )


class DoubleConv(nn.Sequential):
    """The U-Net stage: `num_convs` (two in the original) ConvNormAct blocks.

    Shape:
        (B, in_channels, H, W) -> (B, out_channels, H, W)

    Source: Ronneberger et al. 2015, "U-Net", figure 1; batch normalisation added, as is now usual.
    """

    def __init__(self, in_channels: int, out_channels: int, activation: str = 'relu', num_convs: int = 2) -> None:
        channels = [in_channels] + [out_channels] * num_convs
        super().__init__(*(ConvNormAct(channels[i], channels[i + 1], activation) for i in range(num_convs)))
