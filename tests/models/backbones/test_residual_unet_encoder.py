from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from timm.models.resnetv2 import PreActBasic
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones.residual_unet_encoder import ResidualUNetEncoder
from mmgfnuc.models.layers.residual import ResidualUnit
from mmgfnuc.testing import BackboneBattery, fill_with_noise


class TestContract(BackboneBattery):
    parts = [dict(type=ResidualUNetEncoder, widths=widths) for widths in ((4, 6, 8, 10), (4, 8), (6, 6, 6, 6, 6))]


def test_original():
    """The sum by hand: two 3x3 convolutions, a 1x1 shortcut and two norms a level; the first level has one norm."""
    channels = [3, 64, 128, 256, 512]
    expected = sum(9 * (a * b + b * b) + a * b + 2 * a + 2 * b for a, b in pairwise(channels)) - 2 * 3
    with torch.device('meta'):
        encoder = ResidualUNetEncoder()
    assert sum(p.numel() for p in encoder.parameters()) == expected
    assert encoder.out_channels == (64, 128, 256, 512)
    assert encoder.out_strides == (1, 2, 4, 8)


def noisy(unit):
    """Noise in the parameters and in the statistics of the norms, evaluation mode."""
    for module in fill_with_noise(unit, scale=0.5).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return unit.eval()


def test_unit_with_identity_shortcut_is_that_of_timm():
    torch.manual_seed(0)
    unit = noisy(ResidualUnit(8, 8))
    official = PreActBasic(8, norm_layer=BatchNormAct2d, conv_layer=partial(nn.Conv2d, padding=1, bias=False)).eval()
    norm1, _, conv1, norm2, _, conv2 = unit.branch
    for own, other in [
        (norm1, official.norm1),
        (conv1, official.conv1),
        (norm2, official.norm2),
        (conv2, official.conv2),
    ]:
        other.load_state_dict(own.state_dict())
    x = torch.randn(2, 8, 9, 11)
    torch.testing.assert_close(unit(x), official(x))


@pytest.mark.parametrize('preactivate', [True, False])
def test_unit_with_projection(preactivate):
    """Stride 2 on an odd size, the shortcut from the raw input."""
    torch.manual_seed(0)
    unit = noisy(ResidualUnit(3, 5, stride=2, preactivate=preactivate))
    x = torch.randn(2, 3, 9, 11)

    def normalised(norm, y):
        mean, var, scale, shift = (
            t[:, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        return ((y - mean) / (var + norm.eps).sqrt() * scale + shift).clamp(min=0)

    conv1, norm2, _, conv2 = unit.branch[-4:]
    inner = F.conv2d(normalised(unit.branch[0], x) if preactivate else x, conv1.weight, stride=2, padding=1)
    branch = F.conv2d(normalised(norm2, inner), conv2.weight, padding=1)
    shortcut = torch.einsum('oi,bihw->bohw', unit.shortcut.weight[..., 0, 0], x[..., ::2, ::2])
    torch.testing.assert_close(unit(x), branch + shortcut)


def test_first_unit_takes_the_image_as_it_is():
    """Normalised and rectified first, as the others begin, an image would lose its contrast and half its range."""
    first, *others = ResidualUNetEncoder(3, widths=(4, 6, 8)).stages
    assert isinstance(first.branch[0], nn.Conv2d)
    assert all(isinstance(unit.branch[0], nn.BatchNorm2d) for unit in others)


def test_errors():
    with pytest.raises(UserError, match=r'widths=\(8,\) has 1 level\(s\); a pyramid needs at least 2'):
        ResidualUNetEncoder(widths=(8,))


def test_trains_in_channels_last():
    """torch 2.12 crashes there in narrow 1x1 convolutions of stride 2, on a CPU."""
    encoder = ResidualUNetEncoder(widths=(8, 12, 16))
    images = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    encoder(images)[-1].square().mean().backward()
    assert encoder.stages[1].shortcut.weight.grad.isfinite().all()
