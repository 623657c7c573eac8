"""What every decode head of the project shares."""

from collections.abc import Sequence
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead


class PyramidDecodeHead(BaseDecodeHead):
    """An MMSegmentation decode head that takes the whole local pyramid and answers at the stride of level 0.

    Subclasses implement `forward(pyramid) -> logits`.

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        channels: channels of the decoder's last feature map.
        num_classes: softmax channels: background, nucleus (or more nucleus types).
        loss_decode: registry config of the loss.
        kwargs: other arguments of `BaseDecodeHead`.

    Shape:
        level i: (B, in_channels[i], H_i, W_i) -> (B, num_classes, H_0, W_0)
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        num_classes: int = 2,
        dropout_ratio: float = 0.0,
        loss_decode: dict | Sequence[dict] = dict(type='mmgfnuc.DiceFocalLoss'),  # noqa: B006 - never mutated
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_channels=list(in_channels),
            in_index=list(range(len(in_channels))),
            input_transform='multiple_select',
            channels=channels,
            num_classes=num_classes,
            dropout_ratio=dropout_ratio,
            loss_decode=loss_decode,
            **kwargs,
        )
