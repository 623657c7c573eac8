"""The decoder of U2-Net."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import resize
from mmgfnuc.models.layers.rsu import rsu_of_level
from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead


def default_widths(in_channels: Sequence[int]) -> list[int]:
    """Widths of the decoder stages, shallow first: that of the level above, as U2-Net has it."""
    return [in_channels[0], *in_channels[:-2]]


def default_mid_widths(widths: Sequence[int]) -> list[int]:
    """Widths inside the decoder stages: a quarter in the shallowest, half in the others, as U2-Net has it."""
    return [max(width // (2 if level else 4), 1) for level, width in enumerate(widths)]


@MODELS.register_module()
class U2NetHead(PyramidDecodeHead):
    """U2-Net decoder: a residual U-block per level, a side output of each, and their fusion.

    Every decoder stage and the deepest level get a 3x3 classifier. The prediction is a 1x1 convolution of these side
    outputs at the size of level 0; in training all of them have the same loss (keys `aux_i`, shallow first).

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        widths: channels of each decoder stage, one less than there are levels, shallow first; by default
            `in_channels[0]` and then those of the level above, as in the original.
        mid_widths: channels inside the U-block of each decoder stage; by default half of `widths`, in the shallowest
            a quarter, as in the original. (The small network of the paper has 16 everywhere.)
        kwargs: see PyramidDecodeHead.

    Shape:
        level i: (B, in_channels[i], H_i, W_i) -> (B, num_classes, H_0, W_0)

    Source: Qin et al. 2020, "U2-Net", sections 3.2 and 3.3; widths as in the authors' code.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        widths: Sequence[int] | None = None,
        mid_widths: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        levels = len(in_channels)
        widths = default_widths(in_channels) if widths is None else list(widths)
        mid_widths = default_mid_widths(widths) if mid_widths is None else list(mid_widths)
        super().__init__(in_channels=in_channels, channels=widths[0], **kwargs)
        for name, values in (('widths', widths), ('mid_widths', mid_widths)):
            if len(values) != levels - 1:
                raise UserError(
                    f'{name}={tuple(values)} has {len(values)} entries for a pyramid of {levels} levels; give '
                    f'{levels - 1}, one per level but the deepest'
                )
        decoded = [*widths, in_channels[-1]]
        self.stages = nn.ModuleList(
            rsu_of_level(level, levels, decoded[level + 1] + in_channels[level], mid_widths[level], widths[level])
            for level in range(levels - 1)
        )
        self.side_classifiers = nn.ModuleList(nn.Conv2d(c, self.out_channels, 3, padding=1) for c in decoded)
        self.conv_seg = nn.Conv2d(levels * self.out_channels, self.out_channels, 1)

    def decode(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the decoder's features of every level, shallow first; the last is the deepest level itself."""
        *skips, deepest = self._transform_inputs(inputs)
        decoded = [deepest]
        for stage, skip in zip(reversed(self.stages), reversed(skips), strict=True):
            decoded.insert(0, stage(torch.cat([resize(decoded[0], skip.shape[-2:]), skip], dim=1)))
        return decoded

    def outputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the fused logits, then those of each side output, shallow first, all at the size of level 0."""
        features = self.decode(inputs)
        if self.dropout is not None:
            features = [self.dropout(feature) for feature in features]
        sides = [classifier(feature) for classifier, feature in zip(self.side_classifiers, features, strict=True)]
        sides = [resize(side, sides[0].shape[-2:]) for side in sides]
        return [self.conv_seg(torch.cat(sides, dim=1)), *sides]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        return self.outputs(inputs)[0]
