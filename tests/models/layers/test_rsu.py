import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmgfnuc.models.layers.rsu import RSU, rsu_of_level
from mmgfnuc.testing import fill_with_noise


def up(x, reference):
    return F.interpolate(x, reference.shape[-2:], mode='bilinear', align_corners=False)


@pytest.mark.parametrize('size', [(16, 24), (13, 17)])
def test_rsu4_written_out(size):
    """The block layer by layer."""
    rsu = fill_with_noise(RSU(3, 4, 6, height=4), scale=0.5).eval()
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        entered = rsu.enter(x)
        one = rsu.down[0](entered)
        two = rsu.down[1](F.max_pool2d(one, 2, ceil_mode=True))
        three = rsu.down[2](F.max_pool2d(two, 2, ceil_mode=True))
        bottom = rsu.bottom(three)
        y = rsu.up[0](torch.cat([bottom, three], 1))
        y = rsu.up[1](torch.cat([up(y, two), two], 1))
        y = rsu.up[2](torch.cat([up(y, one), one], 1))
        torch.testing.assert_close(rsu(x), entered + y)


def test_rsu4f_written_out():
    rsu = fill_with_noise(RSU(3, 4, 6, height=4, dilated=True), scale=0.5).eval()
    x = torch.randn(2, 3, 19, 22)
    with torch.no_grad():
        entered = rsu.enter(x)
        one = rsu.down[0](entered)
        two = rsu.down[1](one)
        three = rsu.down[2](two)
        y = rsu.up[0](torch.cat([rsu.bottom(three), three], 1))
        y = rsu.up[1](torch.cat([y, two], 1))
        y = rsu.up[2](torch.cat([y, one], 1))
        torch.testing.assert_close(rsu(x), entered + y)


def dilations(rsu):
    convs = [module for module in rsu.modules() if isinstance(module, nn.Conv2d)]
    assert all(conv.padding == conv.dilation and conv.bias is None for conv in convs)
    return [conv.dilation[0] for conv in convs]


def test_dilations():
    """Entry, down, bottom, up: the pooled blocks dilate at the bottom only."""
    assert dilations(RSU(3, 4, 6, height=4, dilated=True)) == [1, 1, 2, 4, 8, 4, 2, 1]
    assert dilations(RSU(3, 4, 6, height=7)) == [1] * 7 + [2] + [1] * 6


@pytest.mark.parametrize(
    ('num_levels', 'heights'),
    [
        (6, ['7', '6', '5', '4', '4F', '4F']),  # the paper's
        (5, ['6', '5', '4', '4F', '4F']),
        (4, ['5', '4', '4F', '4F']),
        (2, ['4F', '4F']),
    ],
)
def test_heights(num_levels, heights):
    blocks = [rsu_of_level(level, num_levels, 3, 4, 6) for level in range(num_levels)]
    named = [f'{len(block.down) + 1}{"F" if isinstance(block.pool, nn.Identity) else ""}' for block in blocks]
    assert named == heights


@pytest.mark.parametrize('level', [0, 1, 2, 3])
def test_no_block_halves_below_the_deepest_level(level):
    sizes = []
    rsu = rsu_of_level(level, 6, 3, 4, 6).eval()
    rsu.bottom.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-2:]))
    rsu(torch.rand(1, 3, 128 // 2**level, 96 // 2**level))
    assert sizes == [(128 // 32, 96 // 32)]
