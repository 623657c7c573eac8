from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones import UNetEncoder
from mmgfnuc.testing import BackboneBattery, fill_with_noise


class TestContract(BackboneBattery):
    parts = [
        dict(type=UNetEncoder, widths=(4, 6, 8, 10), activation=activation, downsampling=downsampling)
        for activation, downsampling in zip(
            ('relu', 'leaky_relu', 'silu', 'glu'), ('max_pool', 'max_blur_pool') * 2, strict=True
        )
    ]


def test_original_unet():
    """The sum by hand: two 3x3 convolutions and two norms for each level."""
    channels = [3, 64, 128, 256, 512, 1024]
    expected = sum(9 * (a * b + b * b) + 4 * b for a, b in pairwise(channels))
    with torch.device('meta'):
        encoder = UNetEncoder()
    assert sum(p.numel() for p in encoder.parameters()) == expected
    assert encoder.out_channels == (64, 128, 256, 512, 1024)
    assert encoder.out_strides == (1, 2, 4, 8, 16)


def test_glu_stage_is_the_product_of_two_convolutions():
    encoder = UNetEncoder(3, widths=(4, 8), activation='glu')
    conv, norm, _ = block = fill_with_noise(encoder.stages[0][0], scale=1.0).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    x = torch.rand(2, 3, 9, 11)

    def half(channels):
        """Convolution, then batch normalisation written out, on one half of the filters."""
        y = F.conv2d(x, conv.weight[channels], padding=1)
        mean, var, scale, shift = (
            t[channels][:, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        return (y - mean) / (var + norm.eps).sqrt() * scale + shift

    linear, gate = half(slice(0, 4)), half(slice(4, 8))
    torch.testing.assert_close(block(x), linear / (1 + (-gate).exp()))


def test_normalises_for_itself():
    encoder = UNetEncoder(3, widths=(4, 8), mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 0.25)).eval()
    plain = UNetEncoder(3, widths=(4, 8), mean=0.0, std=1.0).eval()
    plain.load_state_dict(encoder.state_dict())
    images = torch.rand(1, 3, 16, 16)
    normalised = (images - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 1, 0.25])[:, None, None]
    torch.testing.assert_close(encoder(images), plain(normalised))


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        ((1, 2, 64, 64), r'images have 2 channels, UNetEncoder takes 3; .* set in_channels=2'),
        ((1, 3, 64, 1), '64x1 pixels are too small for 2 levels: each side must have at least 2 pixels'),
        ((3, 64, 64), r'images have shape \(3, 64, 64\); give batches'),
    ],
)
def test_images_that_do_not_fit(shape, message):
    with pytest.raises(UserError, match=message):
        UNetEncoder(widths=(4, 8))(torch.rand(shape))


def test_convs_per_stage():
    """The last number holds for all deeper stages."""
    for convs, expected in (((3,), [3, 3, 3]), ((1, 2), [1, 2, 2]), ((1, 2, 3, 4), [1, 2, 3])):
        assert [len(stage) for stage in UNetEncoder(3, (4, 8, 8), convs_per_stage=convs).stages] == expected


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'activation': 'gelu'}, "activation='gelu' is unknown; choose one of relu, leaky_relu, silu, glu"),
        ({'blur_padding': 'zeros'}, "blur_padding='zeros' has no meaning for downsampling='max_pool'"),
        (
            {'downsampling': 'max_blur_pool', 'blur_padding': 'same'},
            "'same' is unknown; choose one of replicate, zeros",
        ),
        ({'downsampling': 'stride'}, "downsampling='stride' is unknown; choose one of max_pool, max_blur_pool"),
        ({'widths': (8,)}, 'a pyramid needs at least 2'),
        ({'convs_per_stage': (2, 0)}, r'convs_per_stage=\(2, 0\): give numbers from 1'),
        ({'mean': (0.5, 0.5)}, r'mean=\(0.5, 0.5\): give one number, or one for each of the 3 channels'),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        UNetEncoder(**{'widths': (4, 8)} | settings)
