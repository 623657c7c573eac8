"""What every decode head of the project shares."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmgfnuc.errors import UserError

ADVICE = 'choose a backbone or levels whose strides double, or UNet3PlusHead, which takes any'


def check_depth(in_channels: Sequence[int]) -> None:
    """Refuse a pyramid of a single level, in which there is nothing to decode."""
    if len(in_channels) < 2:
        raise UserError(f'in_channels={tuple(in_channels)} has {len(in_channels)} level(s); a decoder needs at least 2')


def check_class_weights(losses: nn.Module, num_classes: int) -> None:
    """Refuse a loss that weighs other classes than a head has, before it is trained; one channel is no class."""
    for loss in losses if isinstance(losses, nn.ModuleList) else [losses]:
        weights = getattr(loss, 'class_weight', None)
        if isinstance(weights, list | tuple) and num_classes > 1 and len(weights) != num_classes:
            raise UserError(
                f'loss_decode.class_weight={weights} has {len(weights)} weights, the decoder {num_classes} classes '
                '(that of BoundaryHead has the boundary besides, as the last); give one for each'
            )


class PyramidDecodeHead(BaseDecodeHead):
    """An MMSegmentation decode head that takes the whole local pyramid and answers at its finest level.

    Subclasses implement `forward(pyramid) -> logits`, and `outputs` where side outputs are trained too. Where the
    original decodes beyond level 0, to the image itself, so does the head here: by `first_stride`, that of level 0.

    Args:
        in_channels: channels of each level, shallow first; the segmentor gives them.
        channels: channels of the decoder's last feature map.
        in_strides: image pixels per pixel of each level; the segmentor gives them. Under MMSegmentation's own they may
            be typed, else a head that would decode to the image stops at level 0.
        num_classes: softmax channels: background, nucleus (or more nucleus types).
        loss_decode: registry config of the loss.
        kwargs: other arguments of `BaseDecodeHead`.

    Shape:
        level i: (B, in_channels[i], H_i, W_i) -> (B, num_classes, H_0, W_0), s times as large where the head decodes
        to the image, s: in_strides[0]

    Raises:
        UserError: the pyramid is not one that the head can decode.
    """

    # Set by decoders that double what they decode.
    halving = False
    # Settings that have no meaning where the outputs are not classes.
    classes_only: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        in_strides: Sequence[int] | None = None,
        num_classes: int = 2,
        dropout_ratio: float = 0.0,
        loss_decode: dict | Sequence[dict] = dict(type='mmgfnuc.DiceFocalLoss'),  # noqa: B006 - never mutated
        **kwargs: Any,
    ) -> None:
        check_depth(in_channels)
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
        check_class_weights(self.loss_decode, self.out_channels)
        self.first_stride = in_strides[0] if in_strides else 1
        if self.halving and in_strides and any(deep != 2 * shallow for shallow, deep in pairwise(in_strides)):
            raise UserError(
                f'{type(self).__name__} decodes levels whose strides double, not {tuple(in_strides)}; {ADVICE}'
            )

    def _transform_inputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        levels = super()._transform_inputs(inputs)
        if self.halving:
            self._check_halving([tuple(level.shape[-2:]) for level in levels])
        return levels

    def _check_halving(self, sizes: Sequence[tuple[int, ...]]) -> None:
        halves = [tuple(math.ceil(side / 2) for side in size) for size in sizes]
        if list(sizes[1:]) != halves[:-1]:
            raise UserError(
                f'{type(self).__name__} decodes levels that halve in size from one to the next, not {sizes}; {ADVICE}'
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
