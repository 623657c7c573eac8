"""The encoder of U2-Net."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.rsu import rsu_of_level
from mmgfnuc.registry import MODELS

from .staged import StagedBackbone


@MODELS.register_module()
class U2NetEncoder(StagedBackbone):
    """Image -> local pyramid: a residual U-block per level, max-pooled in between.

    The defaults are the original's: RSU-7, RSU-6, RSU-5, RSU-4, RSU-4F, RSU-4F. With other numbers of levels the
    heights follow from the rule of `rsu_of_level`. The small network of the paper has `widths=(64,) * 6,
    mid_widths=(16,) * 6`.

    Args:
        in_channels: channels of the image.
        widths: channels of each level, shallow first; its length is the depth.
        mid_widths: channels inside the U-block of each level.
        mean: subtracted from the image in [0, 1], one number or one per channel.
        std: divides the image after `mean` is subtracted.

    Shape:
        (B, in_channels, H, W) -> level i: (B, widths[i], ceil(H / 2**i), ceil(W / 2**i))

    Source: Qin et al. 2020, "U2-Net", section 3.2; widths as in the authors' code.
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 512, 512),
        mid_widths: Sequence[int] = (32, 32, 64, 128, 256, 256),
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        init_cfg: dict | None = None,
    ) -> None:
        depth = len(widths)
        super().__init__(in_channels, widths, [2**level for level in range(depth)], mean, std, init_cfg=init_cfg)
        if len(mid_widths) != depth:
            raise UserError(
                f'mid_widths={tuple(mid_widths)} has {len(mid_widths)} entries for {depth} widths; give one per level'
            )
        channels = [in_channels, *widths]
        self.stages = nn.ModuleList(
            rsu_of_level(level, depth, channels[level], mid_widths[level], channels[level + 1])
            for level in range(depth)
        )
        # ceil_mode: any image size works without padding.
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """Make a level from the one above it, level 0 from normalised images."""
        return self.stages[level](self.pool(x) if level else x)
