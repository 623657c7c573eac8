"""What every U-Net of the zoo must do as a whole. Inherit `UNetBattery` and give a fixture `unet`."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead

import mmgfnuc
from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones.base import Backbone
from mmgfnuc.testing import assert_round_trip, data_samples, total_loss

from .small import SMALL


def build(unet, parts=None, **settings):
    """The small form of a preset."""
    torch.manual_seed(0)
    return mmgfnuc.create_model(unet, parts=SMALL[unet] | (parts or {}), **settings)


def step(model, images, optimizer):
    """One optimiser step on random truth."""
    optimizer.zero_grad()
    loss = total_loss(model(images, data_samples(len(images), *images.shape[-2:]), mode='loss'))
    loss.backward()
    optimizer.step()
    return loss


def assert_trained(model, images):
    """Every parameter gets a gradient at every step, and one that is not zero by the second.

    Where it must be zero, as that of a bias of attention keys, which the softmax takes no notice of, it may be.
    """
    model.train()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.Adam(trained.values(), lr=1e-3)
    moved = set()
    for _ in range(2):
        assert step(model, images, optimizer).isfinite()
        assert [name for name, parameter in trained.items() if parameter.grad is None] == []
        assert [name for name, parameter in trained.items() if not parameter.grad.isfinite().all()] == []
        moved |= {name for name, parameter in trained.items() if parameter.grad.any()}
    assert [name for name in sorted(trained.keys() - moved) if not name.endswith('attention.key.bias')] == []


class UNetBattery:
    """Images (B, C, H, W) in [0, 1] -> logits (B, K, H, W), for any image size."""

    @pytest.fixture
    def model(self, unet):
        return build(unet)

    @pytest.mark.parametrize('size', [(97, 101), (99, 130)])
    def test_logits_stay_over_their_pixels(self, model, size):
        """At sizes that the strides do not divide they are those of the image continued to the next that they do."""
        model.eval()
        images = torch.rand(1, 3, *size)
        bottom, right = (-side % model.backbone.out_strides[-1] for side in size)
        with torch.no_grad():
            whole = model(F.pad(images, (0, right, 0, bottom), mode='replicate'))
            torch.testing.assert_close(model(images), whole[..., : size[0], : size[1]], rtol=1e-4, atol=1e-5)

    def test_contract_of_the_parts(self, model):
        assert isinstance(model.backbone, Backbone)
        assert isinstance(model.decode_head.decoder, BaseDecodeHead)
        backbone = model.backbone.eval()
        with torch.no_grad():
            pyramid = backbone(torch.rand(1, 3, 100, 140))
        assert isinstance(pyramid, tuple)
        assert len(pyramid) == len(backbone.out_channels) == len(backbone.out_strides)
        assert list(backbone.out_strides) == sorted(backbone.out_strides)
        for level, channels, stride in zip(pyramid, backbone.out_channels, backbone.out_strides, strict=True):
            assert level.shape == (1, channels, math.ceil(100 / stride), math.ceil(140 / stride))

    @pytest.mark.parametrize('in_channels', [1, 4])
    def test_image_channels_and_classes(self, unet, in_channels):
        model = build(unet, in_channels=in_channels, num_classes=5).eval()
        with torch.no_grad():
            logits = model(torch.rand(1, in_channels, 96, 96))
        assert logits.shape == (1, 5, 96, 96)
        assert logits.isfinite().all()

    def test_training_reaches_every_parameter(self, model):
        assert_trained(model, torch.rand(2, 3, 96, 96))

    def test_state_dict_round_trip(self, unet, model):
        assert_round_trip(model, build(unet), torch.rand(1, 3, 96, 100))

    def test_evaluation_is_deterministic_and_image_by_image(self, model):
        model.eval()
        images = torch.rand(2, 3, 96, 96)
        with torch.no_grad():
            torch.testing.assert_close(model(images), model(images), rtol=0, atol=0)
            alone = torch.cat([model(image[None]) for image in images])
            torch.testing.assert_close(model(images), alone, rtol=1e-4, atol=1e-5)

    def test_finite_in_bfloat16(self, model):
        with torch.autocast('cpu', torch.bfloat16):
            losses = model.train()(torch.rand(2, 3, 96, 96), data_samples(2, 96, 96), mode='loss')
        assert total_loss(losses).isfinite()

    def test_too_small_an_image(self, model):
        stride = model.backbone.out_strides[-1]
        with pytest.raises(UserError, match=f'too small for .* levels: each side must have at least {stride} pixels'):
            model(torch.rand(1, 3, 96, stride - 1))

    def test_wrong_number_of_channels(self, model):
        with pytest.raises(UserError, match=r'images have 2 channels, \w+ takes 3; .* set in_channels=2'):
            model(torch.rand(1, 2, 96, 96))
