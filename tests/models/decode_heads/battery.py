"""What every decode head must do. Inherit `DecodeHeadBattery` and define `build`."""

import math
from abc import ABC, abstractmethod

import pytest
import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead

from mmgfnuc.errors import UserError

from ..tiny import assert_gradients, assert_round_trip, data_samples, total_loss

CHANNELS = (4, 6, 8, 10)


def pyramid(batch, height, width, channels=CHANNELS):
    """Level i has ceil(H / 2**i) rows, as the backbones give it."""
    return tuple(
        torch.randn(batch, width_of_level, math.ceil(height / 2**i), math.ceil(width / 2**i))
        for i, width_of_level in enumerate(channels)
    )


class DecodeHeadBattery(ABC):
    """The contract: pyramid, shallow first -> logits (B, num_classes, H_0, W_0)."""

    loss_keys = {'loss_dice_focal', 'acc_seg'}
    # Does the original decode beyond level 0?
    to_the_image = False

    @abstractmethod
    def build(self, in_channels, **settings):
        """A small head."""

    def test_is_a_head_of_mmsegmentation(self):
        assert isinstance(self.build(CHANNELS), BaseDecodeHead)

    @pytest.mark.parametrize('batch', [1, 2])
    @pytest.mark.parametrize('size', [(64, 64), (33, 47), (25, 70)])
    def test_shapes(self, size, batch):
        head = self.build(CHANNELS)
        assert head(pyramid(batch, *size)).shape == (batch, 2, *size)

    @pytest.mark.parametrize('stride', [1, 2, 4])
    def test_given_strides(self, stride):
        head = self.build(CHANNELS, in_strides=[stride * 2**level for level in range(len(CHANNELS))])
        scale = stride if self.to_the_image else 1
        assert head(pyramid(2, 17, 22)).shape == (2, 2, 17 * scale, 22 * scale)

    @pytest.mark.parametrize('depth', [2, 3, 5])
    def test_depths(self, depth):
        channels = (4, 6, 8, 10, 12)[:depth]
        assert self.build(channels)(pyramid(1, 32, 32, channels)).shape == (1, 2, 32, 32)

    def test_a_single_level_is_refused(self):
        with pytest.raises(UserError, match='level'):
            self.build((8,))

    def test_levels_that_do_not_halve_work_or_are_refused(self):
        channels = (4, 8, 12)
        levels = [torch.randn(2, width, side, side) for width, side in zip(channels, (64, 16, 8), strict=True)]
        head = self.build(channels)
        if head.halving:
            with pytest.raises(UserError, match='levels that halve in size from one to the next'):
                head(levels)
            with pytest.raises(UserError, match=r'levels whose strides double, not \(1, 4, 8\); choose a'):
                self.build(channels, in_strides=(1, 4, 8))
        else:
            assert head(levels).shape[:2] == (2, 2)

    def test_number_of_classes(self):
        head = self.build(CHANNELS, num_classes=5)
        assert head(pyramid(1, 16, 16)).shape == (1, 5, 16, 16)

    def test_loss_keys(self):
        losses = self.build(CHANNELS).loss(pyramid(2, 32, 40), data_samples(2, 32, 40), None)
        assert losses.keys() == self.loss_keys
        assert all(value.isfinite().all() for value in losses.values())

    def test_every_parameter_gets_a_gradient(self):
        head = self.build(CHANNELS).train()
        total_loss(head.loss(pyramid(2, 64, 64), data_samples(2, 64, 64), None)).backward()
        assert_gradients(head)

    def test_every_level_counts(self):
        levels = [level.requires_grad_() for level in pyramid(1, 32, 32)]
        self.build(CHANNELS).eval()(levels).square().sum().backward()
        assert all(level.grad.any() for level in levels)

    def test_state_dict_round_trip(self):
        assert_round_trip(self.build(CHANNELS), self.build(CHANNELS), pyramid(1, 32, 48))

    def test_finite_in_bfloat16(self):
        with torch.autocast('cpu', torch.bfloat16):
            losses = self.build(CHANNELS).loss(pyramid(2, 32, 32), data_samples(2, 32, 32), None)
        assert total_loss(losses).isfinite()
