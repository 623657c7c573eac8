import pytest
import torch
from torch import nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import ACTIVATIONS, ConvNormAct, DoubleConv


@pytest.mark.parametrize('activation', sorted(ACTIVATIONS))
def test_channels(activation):
    out = ConvNormAct(3, 5, activation)(torch.rand(2, 3, 6, 7))
    assert out.shape == (2, 5, 6, 7)


def test_activations_are_those_of_their_names():
    x = torch.tensor([-2.0, -0.5, 0.0, 1.5])[None, :, None, None]
    sigmoid = 1 / (1 + (-x).exp())
    expected = {
        'relu': x.clamp(min=0),
        'leaky_relu': torch.where(x < 0, 0.01 * x, x),
        'silu': x * sigmoid,
        'glu': x[:, :2] * sigmoid[:, 2:],
    }
    assert expected.keys() == ACTIVATIONS.keys()
    for name, values in expected.items():
        torch.testing.assert_close(ACTIVATIONS[name]()(x.clone()), values)


def test_unknown_activation():
    with pytest.raises(UserError, match="activation='gelu' is unknown; choose one of relu, leaky_relu, silu, glu"):
        ConvNormAct(3, 4, 'gelu')


@pytest.mark.parametrize('num_convs', [1, 2, 3])
def test_number_of_convolutions(num_convs):
    block = DoubleConv(3, 4, num_convs=num_convs)
    convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.in_channels for conv in convs] == [3, 4, 4][:num_convs]
    assert all(conv.bias is None for conv in convs)
