"""The decoder of Attention U-Net."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mmgfnuc.models.layers import pad_to_multiple, resize, upsample
from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead
from .unet_head import InterpolationUpBlock

# sigmoid(3) = 0.95: a gate starts by letting everything through, as the paper asks, and can still learn.
OPEN_GATE = 3.0


class AttentionGate(nn.Module):
    """Additive attention: `alpha * skip`, one coefficient in [0, 1] per pixel, decided at the gating signal's scale.

    `alpha = sigmoid(psi(relu(W_x skip + W_g gating + b_g)) + b_psi)`, interpolated bilinearly to the skip's size.
    W_x is a 2x2 convolution of stride 2, W_g and psi are 1x1 convolutions, with as many channels as the skip inside.

    Shape:
        skip (B, skip_channels, H, W), gating (B, gating_channels, h, w) -> (B, skip_channels, H, W)

    Source: Oktay et al. 2018, "Attention U-Net", equations 1 and 2, figure 2; kernel sizes and inner channels from the
    authors' release, the bias that opens the gate from its variant with `concatenation_sigmoid`. The release's
    convolutions and norms after each gate and of the bottleneck's gating signal, and a second gate on each skip, are
    not in the paper, and not here.
    """

    def __init__(self, skip_channels: int, gating_channels: int) -> None:
        super().__init__()
        self.project_skip = nn.Conv2d(skip_channels, skip_channels, 2, stride=2, bias=False)
        self.project_gating = nn.Conv2d(gating_channels, skip_channels, 1)
        self.score = nn.Conv2d(skip_channels, 1, 1)
        nn.init.constant_(self.score.get_parameter('bias'), OPEN_GATE)

    def attention(self, skip: Tensor, gating: Tensor) -> Tensor:
        """Return the coefficients, (B, 1, H, W)."""
        height, width = skip.shape[-2:]
        local = self.project_skip(pad_to_multiple(skip, 2))
        context = resize(self.project_gating(gating), local.shape[-2:])
        coefficients = self.score(torch.relu(local + context)).sigmoid()
        # Doubled and cropped, so that at an odd size a coefficient stays over the pixels that it was made of.
        return upsample(coefficients, 2)[..., :height, :width]

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        """Scale the skip."""
        return skip * self.attention(skip, gating)


@MODELS.register_module()
class AttentionUNetHead(PyramidDecodeHead):
    """Attention U-Net decoder: the level below gates each skip before it joins.

    The shallowest skip is not gated: as the paper has it, it does not represent the image in a high-dimensional
    space.

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        residual: pre-activation residual units instead of the two convolutions of each level.
        deep_supervision: every decoder level gets a 1x1 classifier; the prediction is a 1x1 convolution of their
            logits at the size of level 0.
        kwargs: see PyramidDecodeHead.

    Shape:
        level i: (B, in_channels[i], H_i, W_i) -> (B, num_classes, H_0, W_0)

    Source: Oktay et al. 2018, "Attention U-Net", section 2 (there for volumes; here for images); how the levels are
    supervised: the authors' release, `unet_CT_single_att_dsv_3D.py`.
    """

    def __init__(
        self, in_channels: Sequence[int], residual: bool = False, deep_supervision: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(in_channels=in_channels, channels=in_channels[0], **kwargs)
        steps = list(pairwise(in_channels))
        self.up_blocks = nn.ModuleList(InterpolationUpBlock(deep, skip, skip, residual) for skip, deep in steps)
        self.gates = nn.ModuleList(AttentionGate(skip, deep) for skip, deep in steps[1:])
        self.side_classifiers = nn.ModuleList()
        if deep_supervision:
            decoded = in_channels[:-1]
            self.side_classifiers.extend(nn.Conv2d(width, self.out_channels, 1) for width in decoded)
            self.conv_seg = nn.Conv2d(len(decoded) * self.out_channels, self.out_channels, 1)

    def decode(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the decoder's map of every level but the deepest, shallow first."""
        *skips, x = self._transform_inputs(inputs)
        decoded: list[Tensor] = []
        for level in reversed(range(len(skips))):
            skip = self.gates[level - 1](skips[level], x) if level else skips[level]
            x = self.up_blocks[level](x, skip)
            decoded.insert(0, x)
        return decoded

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        decoded = self.decode(inputs)
        if not self.side_classifiers:
            return self.cls_seg(decoded[0])
        sides = [classifier(x) for classifier, x in zip(self.side_classifiers, decoded, strict=True)]
        return self.cls_seg(torch.cat([resize(side, sides[0].shape[-2:]) for side in sides], dim=1))
