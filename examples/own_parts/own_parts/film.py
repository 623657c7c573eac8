"""A fusion block: scale and shift."""

from torch import Tensor, nn

from mmgfnuc.models.necks import FusionBlock


class FilmBlock(FusionBlock):
    """`u * (1 + a) + b`, with a and b projected from the context; at the start the identity.

    Shape:
        local u (B, C, H, W), context (B, D, H, W) -> (B, C, H, W)

    Source: Perez et al. 2018, arXiv:1709.07871, equation 2, with a and b for each pixel.
    """

    def __init__(self, in_channels: int, context_channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(context_channels, 2 * in_channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, local: Tensor, context: Tensor, step: tuple[float, float] | None = None) -> Tensor:
        """Fuse one level."""
        scale, shift = self.project(context).chunk(2, dim=1)
        return local * (1 + scale) + shift
