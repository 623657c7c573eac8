"""The encoder of the deep residual U-Net."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmgfnuc.models.layers.residual import ResidualUnit
from mmgfnuc.registry import MODELS

from .staged import StagedBackbone


@MODELS.register_module()
class ResidualUNetEncoder(StagedBackbone):
    """Image -> local pyramid: one pre-activation residual unit per entry of `widths`, halved by strided convolution.

    The levels are sums of residual branches, neither normalised nor activated after the last one: the decoder's
    units begin with both.

    Args:
        in_channels: channels of the image.
        widths: channels of each level, shallow first; its length is the depth. The last is the original's bridge.
        mean: subtracted from the image in [0, 1], one number or one per channel.
        std: divides the image after `mean` is subtracted.

    Shape:
        (B, in_channels, H, W) -> level i: (B, widths[i], ceil(H / 2**i), ceil(W / 2**i))

    Raises:
        UserError: fewer than two levels.

    Source: Zhang, Liu, Wang 2018, "Road Extraction by Deep Residual U-Net", table I (encoding and bridge).
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512),
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        init_cfg: dict | None = None,
    ) -> None:
        strides = [2**level for level in range(len(widths))]
        super().__init__(in_channels, widths, strides, mean, std, init_cfg=init_cfg)
        self.stages = nn.ModuleList(
            [
                ResidualUnit(in_channels, widths[0], preactivate=False),
                *(ResidualUnit(widths[i], widths[i + 1], stride=2) for i in range(len(widths) - 1)),
            ]
        )

    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """Make a level from the one above it, level 0 from normalised images."""
        return self.stages[level](x)
