import itertools

import torch
import torch.nn.functional as F
from torch import nn

from mmgfnuc.models.backbones.residual_unet_encoder import ResidualUNetEncoder
from mmgfnuc.models.decode_heads.unet_head import UNetHead
from mmgfnuc.testing import DecodeHeadBattery


class TestContract(DecodeHeadBattery):
    parts = [dict(type=UNetHead), dict(type=UNetHead, residual=True)]


def test_original_unet():
    """The sum by hand: a 2x2 transposed convolution, two 3x3 convolutions and two norms for each step, a 1x1 end."""
    widths = (64, 128, 256, 512, 1024)
    steps = sum(4 * b * a + a + 9 * (2 * a * a + a * a) + 4 * a for a, b in itertools.pairwise(widths))
    with torch.device('meta'):
        head = UNetHead(widths)
    assert sum(p.numel() for p in head.parameters()) == steps + 2 * 64 + 2


def test_upsampled_map_is_cropped_right_and_below():
    """At an odd size the last row and column of the doubled map have no place."""
    head = UNetHead((4, 8)).eval()
    deep, skip = torch.randn(1, 8, 3, 3), torch.randn(1, 4, 5, 6)
    block = head.up_blocks[0]
    joined = torch.cat([skip, block.up(deep)[:, :, :5, :6]], 1)
    torch.testing.assert_close(head((skip, deep)), head.conv_seg(block.convs(joined)))


def test_original_residual_unet():
    """The sum by hand, and the 7.8 M parameters of the paper.

    The paper's number is that of the 3x3 convolutions of its table I. Besides these we count the 1x1 shortcuts, which
    no unit of table I can do without (each changes the number of channels), the norms and the classifier.
    """
    widths = (64, 128, 256, 512)
    units = [(3, 64), (64, 128), (128, 256), (256, 512), (512 + 256, 256), (256 + 128, 128), (128 + 64, 64)]
    assert round(sum(9 * (a * b + b * b) for a, b in units) / 1e6, 1) == 7.8
    with torch.device('meta'):
        network = nn.Sequential(ResidualUNetEncoder(), UNetHead(widths, residual=True))
    kernels = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert sum(kernel.numel() for kernel in kernels) == sum(9 * (a * b + b * b) for a, b in units)
    # The first unit, which takes the image, begins without a norm.
    rest = sum(a * b + 2 * a + 2 * b for a, b in units) - 2 * 3 + (64 * 2 + 2)
    total = sum(p.numel() for p in network.parameters())
    assert total - sum(kernel.numel() for kernel in kernels) == rest
    assert total == 8_216_834


def test_residual_step_interpolates_to_the_skip():
    head = UNetHead((4, 8), residual=True).eval()
    deep, skip = torch.randn(1, 8, 3, 2), torch.randn(1, 4, 5, 6)
    joined = torch.cat([skip, F.interpolate(deep, (5, 6), mode='bilinear')], 1)
    torch.testing.assert_close(head((skip, deep)), head.conv_seg(head.up_blocks[0].convs(joined)))
