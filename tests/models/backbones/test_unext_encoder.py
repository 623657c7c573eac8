import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.errors import UserError
from mmgfnuc.models.backbones.unext_encoder import UNeXtEncoder
from mmgfnuc.models.layers.shifted_mlp import TokenizedMLP
from mmgfnuc.testing import BackboneBattery, fill_with_noise


class TestContract(BackboneBattery):
    parts = [dict(type=UNeXtEncoder, widths=(4, 6, 8, 10, 12)[:levels]) for levels in (3, 4, 5)]


def test_stages_written_out():
    """Three times convolution, norm, max-pooling, ReLU; then twice patches, layer norm, tokenized MLP."""
    encoder = fill_with_noise(UNeXtEncoder(widths=(4, 6, 8, 10, 12), mean=0.0, std=1.0), scale=0.5).eval()
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        pyramid = encoder(x)
        for level, stage in enumerate(encoder.stages):
            conv = stage[0][0] if level < 3 else stage[0]
            if level < 3:
                norm = stage[0][1]
                x = F.conv2d(x, conv.weight, padding=1)
                x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
                x = F.relu(F.max_pool2d(x, 2))
            else:
                _, norm, mlp = stage
                assert isinstance(mlp, TokenizedMLP)
                x = F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
                tokens = F.layer_norm(x.flatten(2).mT, (len(norm.weight),), norm.weight, norm.bias)
                x = mlp(tokens.mT.reshape(x.shape))
            torch.testing.assert_close(pyramid[level], x)


def test_defaults():
    """Widths and strides of the authors' code. (The published number of parameters is pinned with the head.)"""
    with torch.device('meta'):
        encoder = UNeXtEncoder()
    assert encoder.out_channels == (16, 32, 128, 160, 256)
    assert encoder.out_strides == (2, 4, 8, 16, 32)


def test_too_few_levels():
    with pytest.raises(UserError, match=r'widths=\(8, 8\) has 2 level\(s\); .* give 3 or more'):
        UNeXtEncoder(widths=(8, 8))
