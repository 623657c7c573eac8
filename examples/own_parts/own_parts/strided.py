"""A U-Net encoder: any module that gives a pyramid."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class StridedEncoder(nn.Module):
    """Image -> local pyramid; strided convolutions halve the size.

    Shape:
        (B, in_channels, H, W) -> level i: (B, widths[i], H / 2**i, W / 2**i)
    """

    def __init__(self, in_channels: int = 3, widths: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(shallow, deep, 3, stride, padding=1), nn.BatchNorm2d(deep), nn.ReLU())
            for stride, (shallow, deep) in zip((1, *[2] * len(widths)), pairwise((in_channels, *widths)), strict=False)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode normalised images."""
        pyramid = [images]
        for stage in self.stages:
            pyramid.append(stage(pyramid[-1]))
        return pyramid[1:]
