"""The full-scale decoder of U-Net3+ and eU-Net3+."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.models.layers import ConvNormAct, resize
from mmgfnuc.registry import MODELS

from .base import PyramidDecodeHead

# Foreground logits of an image that the classification-guided module calls empty; finite in half precision.
SUPPRESSED_LOGIT = -1e4


def resize_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Max-pool a larger map, interpolate a smaller one bilinearly.

    Shape:
        (B, C, h, w) -> (B, C, *size)
    """
    if x.shape[-2] > size[0] or x.shape[-1] > size[1]:
        return F.adaptive_max_pool2d(x, size)
    return resize(x, size)


class FullScaleNode(nn.Module):
    """A decoder node: every source is resized and projected to `skip_channels`, joined and convolved.

    Shape:
        source j: (B, source_channels[j], H_j, W_j) -> (B, skip_channels * len(source_channels), *size)
    """

    def __init__(self, source_channels: Sequence[int], skip_channels: int) -> None:
        super().__init__()
        joined = skip_channels * len(source_channels)
        self.project = nn.ModuleList(ConvNormAct(channels, skip_channels) for channels in source_channels)
        self.fuse = ConvNormAct(joined, joined)

    def forward(self, sources: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Gather all scales at one size."""
        resized = [project(resize_to(x, size)) for project, x in zip(self.project, sources, strict=True)]
        return self.fuse(torch.cat(resized, dim=1))


class ClassificationGuide(nn.Sequential):
    """Does the image hold any nucleus? Dropout, 1x1 convolution, global max-pool on the deepest features.

    Shape:
        (B, in_channels, H, W) -> (B, 2) logits: none, some
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(nn.Dropout(0.5), nn.Conv2d(in_channels, 2, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten())


@MODELS.register_module()
class UNet3PlusHead(PyramidDecodeHead):
    """U-Net3+ decoder: every node sees every scale (encoder above it, decoder below it).

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        skip_channels: channels that each source is projected to: 32 in eU-Net3+, 64 in U-Net3+. A node has this
            many times the number of levels.
        deep_supervision: each deeper node and the bottleneck get a 3x3 classifier and the same loss (keys `aux_i`).
        classification_guided: learn from the deepest features whether the image holds any nucleus; at prediction an
            image called empty has its nucleus logits suppressed, once `loss` has been taken and the guide thereby been
            trained. (The original multiplies the output during training too, which stops all gradients of an image that
            is wrongly called empty.)
        kwargs: see PyramidDecodeHead.

    Shape:
        level i: (B, in_channels[i], H_i, W_i) -> (B, num_classes, H_0, W_0)

    Source: Huang et al. 2020, "UNet 3+", sections 2.1 to 2.3; for eU-Net3+ docs/method.md, section "eU-Net3+".
    """

    classes_only = ('classification_guided',)

    def __init__(
        self,
        in_channels: Sequence[int],
        skip_channels: int = 64,
        deep_supervision: bool = False,
        classification_guided: bool = False,
        **kwargs: Any,
    ) -> None:
        levels = len(in_channels)
        channels = skip_channels * levels
        super().__init__(in_channels=in_channels, channels=channels, **kwargs)
        self.conv_seg = nn.Conv2d(channels, self.out_channels, 3, padding=1)
        # The node of level i sees the encoder down to i, the nodes below it, and the bottleneck.
        self.nodes = nn.ModuleList(
            FullScaleNode([*in_channels[: i + 1], *[channels] * (levels - 2 - i), in_channels[-1]], skip_channels)
            for i in range(levels - 1)
        )
        side_channels = [channels] * (levels - 2) + [in_channels[-1]] if deep_supervision else []
        self.side_classifiers = nn.ModuleList(nn.Conv2d(c, self.out_channels, 3, padding=1) for c in side_channels)
        self.guide = ClassificationGuide(in_channels[-1]) if classification_guided else None
        if classification_guided:
            self.register_buffer('guide_trained', torch.tensor(False))

    def decode(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the decoder's node of every level, shallow first; the last is the bottleneck itself."""
        encoder = self._transform_inputs(inputs)
        decoded = [encoder[-1]]
        for level in reversed(range(len(self.nodes))):
            size = tuple(encoder[level].shape[-2:])
            decoded.insert(0, self.nodes[level]([*encoder[: level + 1], *decoded], size))
        return decoded

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, shallow first."""
        decoded = self.decode(inputs)
        logits = self.cls_seg(decoded[0])
        if self.guide is None or self.training:
            return logits
        empty = self.guide_trained & (self.guide(decoded[-1]).argmax(1) == 0)
        nucleus = torch.arange(logits.shape[1], device=logits.device) > 0
        return logits.masked_fill(empty[:, None, None, None] & nucleus[:, None, None], SUPPRESSED_LOGIT)

    def outputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of the shallowest node, then those of the deeper ones under deep supervision."""
        decoded = self.decode(inputs)
        sides = zip(self.side_classifiers, decoded[1:], strict=False)
        return [self.cls_seg(decoded[0]), *(classifier(node) for classifier, node in sides)]

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: list, train_cfg: dict | None = None) -> dict:
        """Loss of the outputs, plus that of the guide where it is on."""
        losses = super().loss(inputs, batch_data_samples, train_cfg)
        if self.guide is not None:
            target = self._stack_batch_gt(batch_data_samples).flatten(1)
            some = ((target > 0) & (target != self.ignore_index)).any(1).long()
            losses['loss_guide'] = F.cross_entropy(self.guide(inputs[-1]), some)
            self.guide_trained |= self.training
        return losses
