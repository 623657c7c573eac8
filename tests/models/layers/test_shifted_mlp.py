import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.models.layers.shifted_mlp import ShiftedMLP, TokenizedMLP, shift_channels
from mmgfnuc.testing import fill_with_noise


@pytest.mark.parametrize('size', [(6, 9), (9, 6), (2, 2), (1, 1)])
@pytest.mark.parametrize('channels', [4, 5, 10, 13])
def test_shift_equals_its_definition(channels, size):
    """Pixel (y, x) of a channel in group g holds what stood g - 2 pixels above it, or left of it; zero beyond."""
    x = torch.randn(2, channels, *size)
    group_size = -(-channels // 5)
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    for c in range(channels):
        shift = c // group_size - 2
        for row in range(size[0]):
            for column in range(size[1]):
                if 0 <= row - shift < size[0]:
                    down[:, c, row, column] = x[:, c, row - shift, column]
                if 0 <= column - shift < size[1]:
                    right[:, c, row, column] = x[:, c, row, column - shift]
    torch.testing.assert_close(shift_channels(x, 2), down, rtol=0, atol=0)
    torch.testing.assert_close(shift_channels(x, 3), right, rtol=0, atol=0)


def test_groups_of_the_published_widths():
    """128, 160 and 256 channels fall into five groups, the last one smaller where five does not divide them."""
    for channels, sizes in ((128, [26, 26, 26, 26, 24]), (160, [32] * 5), (256, [52, 52, 52, 52, 48])):
        ramp = torch.arange(1.0, 6)[None, None, :, None].expand(1, channels, 5, 1)
        # The middle row of a ramp tells by how much its channel moved.
        moved = 3 - shift_channels(ramp, 2)[0, :, 2, 0]
        assert [(moved == shift).sum().item() for shift in (-2, -1, 0, 1, 2)] == sizes
        assert moved.tolist() == sorted(moved.tolist())


def layer_norm(x, norm):
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def linear(x, layer):
    """A linear layer over the channels of every pixel."""
    return torch.einsum('oc,bchw->bohw', layer.weight[..., 0, 0], x) + layer.bias[:, None, None]


def test_block_written_out():
    """A non-square map: nothing may take the height for the width."""
    block = fill_with_noise(TokenizedMLP(10), scale=0.5).eval()
    mlp = block.mlp
    x = torch.randn(2, 10, 4, 7)
    with torch.no_grad():
        y = linear(shift_channels(layer_norm(x, block.norm_in), 2), mlp.fc1)
        y = F.gelu(F.conv2d(y, mlp.depthwise.weight, mlp.depthwise.bias, padding=1, groups=10))
        y = linear(shift_channels(y, 3), mlp.fc2)
        torch.testing.assert_close(block(x), layer_norm(x + y, block.norm_out))


def test_initialisation_of_the_authors():
    torch.manual_seed(0)
    mlp = ShiftedMLP(256)
    for layer, std in ((mlp.fc1, 0.02), (mlp.fc2, 0.02), (mlp.depthwise, (2 / 9) ** 0.5)):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
        assert not layer.bias.any()
