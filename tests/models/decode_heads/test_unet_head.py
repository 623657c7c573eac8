import itertools

import torch

from mmgfnuc.models.decode_heads import UNetHead

from .battery import DecodeHeadBattery


class TestContract(DecodeHeadBattery):
    def build(self, in_channels, **settings):
        return UNetHead(in_channels, **settings)


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
