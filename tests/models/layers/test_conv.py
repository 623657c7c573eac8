import pytest
import torch

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import ACTIVATIONS, ConvNormAct


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
