"""The nested decoder of U-Net++."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead
from .unet_head import UpBlock


@MODELS.register_module()
class UNetPlusPlusHead(PyramidDecodeHead):
    """U-Net++ decoder: U-Nets of every depth in one, with nested, dense skips.

    `X[i, j] = convs(concat(X[i, 0], ..., X[i, j - 1], up(X[i + 1, j - 1])))`, X[i, 0] being level i of the pyramid:
    node j of a level sees all nodes before it, and the one below.

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        deep_supervision: each node X[0, j], j > 0, gets a 1x1 classifier and the same loss, weighted alike; the
            prediction is the mean of their logits (the paper's "accurate mode", which averages the branches). Off,
            only the last node is classified.
        kwargs: see PyramidDecodeHead.

    Shape:
        level i: (B, in_channels[i], H_i, W_i), H_i = ceil(H_0 / 2**i) -> (B, num_classes, H_0, W_0)

    Source: Zhou et al. 2018, "UNet++: A Nested U-Net Architecture", equation 1 and section 3; Zhou et al. 2020,
    "UNet++: Redesigning Skip Connections"; transposed convolutions as in the authors' release.
    """

    halving = True

    def __init__(self, in_channels: Sequence[int], deep_supervision: bool = False, **kwargs: Any) -> None:
        super().__init__(in_channels=in_channels, channels=in_channels[0], **kwargs)
        depth = len(in_channels)
        # nodes[j - 1][i] is X[i, j].
        self.nodes = nn.ModuleList(
            nn.ModuleList(UpBlock(in_channels[i + 1], in_channels[i], num_skips=j) for i in range(depth - j))
            for j in range(1, depth)
        )
        num_sides = depth - 2 if deep_supervision else 0
        self.side_classifiers = nn.ModuleList(nn.Conv2d(in_channels[0], self.out_channels, 1) for _ in range(num_sides))

    def decode(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the nodes X[0, 1], X[0, 2], ... of level 0."""
        grid = [[level] for level in self._transform_inputs(inputs)]
        for column in self.nodes:
            for i, node in enumerate(column.children()):
                # Row i + 1 still ends one column back: X[i + 1, j - 1].
                grid[i].append(node(grid[i + 1][-1], *grid[i]))
        return grid[0][1:]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        return torch.stack(self.outputs(inputs)).mean(0)

    def outputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits that are trained: of the last node, then of X[0, 1], X[0, 2], ... under deep supervision.

        Their mean is the prediction.
        """
        *nodes, last = self.decode(inputs)
        sides = zip(self.side_classifiers, nodes, strict=False)
        return [self.cls_seg(last), *(classifier(node) for classifier, node in sides)]
