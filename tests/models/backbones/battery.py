"""What every backbone must do. Inherit `BackboneBattery`, define `build`, and parametrize over the settings."""

import math
from abc import ABC, abstractmethod

import pytest
import torch

from ..tiny import assert_gradients, assert_round_trip


class BackboneBattery(ABC):
    """The contract: images in [0, 1] -> level i (B, out_channels[i], ceil(H / out_strides[i]), ...), shallow first."""

    @abstractmethod
    def build(self, settings, in_channels=3):
        """A small backbone. `settings` comes from a fixture of the inheriting class."""

    @pytest.mark.parametrize('size', [(64, 64), (100, 140)])
    def test_shapes(self, settings, size):
        backbone = self.build(settings)
        pyramid = backbone(torch.rand(2, 3, *size))
        assert isinstance(pyramid, tuple)
        assert len(pyramid) == len(backbone.out_channels) == len(backbone.out_strides)
        assert list(backbone.out_strides) == sorted(backbone.out_strides)
        for level, channels, stride in zip(pyramid, backbone.out_channels, backbone.out_strides, strict=True):
            assert level.shape == (2, channels, *(math.ceil(side / stride) for side in size))

    @pytest.mark.parametrize('in_channels', [1, 4])
    def test_image_channels(self, settings, in_channels):
        pyramid = self.build(settings, in_channels)(torch.rand(1, in_channels, 32, 32))
        assert all(level.isfinite().all() for level in pyramid)

    def test_every_parameter_gets_a_gradient(self, settings):
        backbone = self.build(settings)
        sum(level.square().mean() for level in backbone(torch.rand(2, 3, 64, 64))).backward()
        assert_gradients(backbone)

    def test_state_dict_round_trip(self, settings):
        assert_round_trip(self.build(settings), self.build(settings), torch.rand(1, 3, 32, 48))

    def test_evaluation_is_deterministic_and_image_by_image(self, settings):
        backbone = self.build(settings).eval()
        images = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(backbone(images), backbone(images), rtol=0, atol=0)
            alone = [backbone(image[None]) for image in images]
            torch.testing.assert_close(backbone(images), tuple(map(torch.cat, zip(*alone, strict=True))))

    def test_finite_in_bfloat16(self, settings):
        with torch.autocast('cpu', torch.bfloat16):
            pyramid = self.build(settings)(torch.rand(2, 3, 64, 64))
        assert all(level.isfinite().all() for level in pyramid)
