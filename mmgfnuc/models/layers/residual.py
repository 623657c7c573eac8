"""The residual unit of the deep residual U-Net."""

from torch import Tensor, nn


class ResidualUnit(nn.Module):
    """Full pre-activation: `conv(relu(norm(conv(relu(norm(x)))))) + shortcut(x)`, with 3x3 convolutions.

    The shortcut is the identity, or a 1x1 convolution where the number of channels or the size changes. No
    convolution has a bias: the batch normalisation that follows, here or in the next unit, would remove it.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution; 2 halves the size.
        preactivate: begin with the normalisation and activation; off in the unit that takes the image.

    Shape:
        (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))

    Source: Zhang, Liu, Wang 2018, "Road Extraction by Deep Residual U-Net", section II-A and figure 1b; the unit is
    that of He et al. 2016, "Identity Mappings in Deep Residual Networks".
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, preactivate: bool = True) -> None:
        super().__init__()
        before = [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)] if preactivate else []
        self.branch = nn.Sequential(
            *before,
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        keeps_shape = in_channels == out_channels and stride == 1
        self.stride = stride
        self.shortcut = nn.Identity() if keeps_shape else nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to the shortcut."""
        # Strided by hand: torch 2.12 crashes on a CPU in the backward pass of narrow 1x1 convolutions of stride 2 if x
        # is in channels_last.
        return self.branch(x) + self.shortcut(x[..., :: self.stride, :: self.stride])
