"""A foundation encoder: any module that gives maps of features."""

from torch import Tensor, nn


class PatchMixer(nn.Module):
    """Patches of 8 pixels, mixed by depthwise convolutions.

    Shape:
        (B, 3, H, W) -> (B, width, H / 8, W / 8)
    """

    # Of the images that it was trained on.
    mean, std = (0.70, 0.55, 0.69), (0.17, 0.21, 0.15)
    out_strides = (8,)

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.out_channels = (width,)
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 5, padding=2, groups=width), nn.GELU(), nn.Conv2d(width, width, 1))
            for _ in range(depth)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode normalised images."""
        features = self.patches(images)
        for block in self.blocks:
            features = features + block(features)
        return [features]
