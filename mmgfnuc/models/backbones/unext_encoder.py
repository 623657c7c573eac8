"""The encoder of UNeXt."""

from collections.abc import Sequence

from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import ConvNormAct
from mmgfnuc.models.layers.shifted_mlp import TokenizedMLP
from mmgfnuc.registry import MODELS

from .staged import StagedBackbone

TOKENIZED_STAGES = 2


def conv_stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """One convolution, then max-pooling; ceil_mode: any image size works without padding."""
    return nn.Sequential(ConvNormAct(in_channels, out_channels), nn.MaxPool2d(2, ceil_mode=True))


def tokenized_stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Overlapping patches of stride 2 become tokens, mixed by a tokenized MLP."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1),
        LayerNorm2d(out_channels, eps=1e-5),
        TokenizedMLP(out_channels),
    )


@MODELS.register_module()
class UNeXtEncoder(StagedBackbone):
    """Image -> local pyramid: convolution stages, then two tokenized-MLP stages; each halves the size.

    The shallowest level has stride 2. The default widths are those of the authors' code, which has the published
    number of parameters; the paper's text prints 32, 64, 128, 160, 256.

    Args:
        in_channels: channels of the image.
        widths: channels of each level, shallow first; its length is the depth, its last two are tokenized.
        mean: subtracted from the image in [0, 1], one number or one per channel.
        std: divides the image after `mean` is subtracted.

    Shape:
        (B, in_channels, H, W) -> level i: (B, widths[i], ceil(H / 2**(i + 1)), ceil(W / 2**(i + 1)))

    Source: Valanarasu and Patel 2022, "UNeXt", section 2 and the authors' code.
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (16, 32, 128, 160, 256),
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        init_cfg: dict | None = None,
    ) -> None:
        depth = len(widths)
        strides = [2 ** (level + 1) for level in range(depth)]
        super().__init__(in_channels, widths, strides, mean, std, init_cfg=init_cfg)
        if depth <= TOKENIZED_STAGES:
            raise UserError(
                f'widths={tuple(widths)} has {depth} level(s); the last {TOKENIZED_STAGES} are tokenized and at least '
                f'one convolution stage comes before them: give {TOKENIZED_STAGES + 1} or more'
            )
        channels = [in_channels, *widths]
        kinds = [conv_stage] * (depth - TOKENIZED_STAGES) + [tokenized_stage] * TOKENIZED_STAGES
        self.stages = nn.ModuleList(kind(channels[i], channels[i + 1]) for i, kind in enumerate(kinds))

    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """Make a level from the one above it, level 0 from normalised images."""
        return self.stages[level](x)
