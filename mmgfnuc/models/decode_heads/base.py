"""What every decode head of the project shares."""

from collections.abc import Sequence
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from mmgfnuc.errors import UserError


class PyramidDecodeHead(BaseDecodeHead):
    """An MMSegmentation decode head that takes the whole local pyramid and answers at the stride of level 0.

    Subclasses implement `forward(pyramid) -> logits`, and `outputs` where side outputs are trained too. Where the
    original decodes beyond level 0, to the image itself, so does the head here.

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        channels: channels of the decoder's last feature map.
        num_classes: softmax channels: background, nucleus (or more nucleus types).
        loss_decode: registry config of the loss.
        kwargs: other arguments of `BaseDecodeHead`.

    Shape:
        level i: (B, in_channels[i], H_i, W_i) -> (B, num_classes, H_0, W_0)

    Raises:
        UserError: the pyramid is not one that the head can decode.
    """

    # Set where the architecture fixes it.
    num_levels: int | None = None

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        num_classes: int = 2,
        dropout_ratio: float = 0.0,
        loss_decode: dict | Sequence[dict] = dict(type='mmgfnuc.DiceFocalLoss'),  # noqa: B006 - never mutated
        **kwargs: Any,
    ) -> None:
        if self.num_levels is not None and len(in_channels) != self.num_levels:
            raise UserError(
                f'{type(self).__name__} decodes a pyramid of {self.num_levels} levels, the backbone gives '
                f'{len(in_channels)}; give it {self.num_levels} levels, or take a head for any depth: UNetHead'
            )
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

    def outputs(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return all logits that the loss is taken of in training, the prediction first."""
        return [self(inputs)]

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: list, train_cfg: dict | None = None) -> dict:
        """Loss of the prediction, and of each side output under keys `aux_i`."""
        prediction, *sides = self.outputs(inputs)
        losses = self.loss_by_feat(prediction, batch_data_samples)
        for number, side in enumerate(sides, start=1):
            side_losses = self.loss_by_feat(side, batch_data_samples)
            losses.update({f'aux_{number}.{key}': value for key, value in side_losses.items()})
        return losses
