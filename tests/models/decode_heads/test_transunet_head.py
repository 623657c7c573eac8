from itertools import pairwise

import torch
import torch.nn.functional as F

from mmgfnuc.models.backbones.transunet_encoder import TransUNetEncoder
from mmgfnuc.models.decode_heads.transunet_head import TransUNetHead
from mmgfnuc.testing import DecodeHeadBattery


class TestContract(DecodeHeadBattery):
    part = dict(type=TransUNetHead, deep_channels=32, channels=4)
    to_the_image = True


def test_published_size():
    """The paper prints no count; comparisons by others print 105.28 M at 224 pixels and 9 classes.

    By hand from the authors' code: the convolution in, two convolutions and norms for each block on 256, 128, 64
    channels joined with skips of 512, 256, 64, and on 16 without one, the 3x3 end; no bias before a norm, as there.
    """
    with torch.device('meta'):
        encoder = TransUNetEncoder()
        head = TransUNetHead(encoder.out_channels, num_classes=9)
    widths, skips = (512, 256, 128, 64, 16), (512, 256, 64, 0)
    blocks = sum(9 * ((a + skip) * b + b * b) + 4 * b for (a, b), skip in zip(pairwise(widths), skips, strict=True))
    expected = 9 * 768 * 512 + 2 * 512 + blocks + 9 * 16 * 9 + 9
    count = sum(p.numel() for p in head.parameters())
    assert count == expected
    assert count + sum(p.numel() for p in encoder.parameters()) == 105_277_081


def test_widths_for_any_depth():
    def widths(levels):
        head = TransUNetHead([8] * levels, deep_channels=64, channels=16)
        return [block[-1][0].out_channels for block in (*head.blocks, head.final_block)]

    assert widths(3) == [32, 16, 16]
    assert widths(5) == [32, 16, 16, 16, 16]


def test_cascade_by_hand():
    """Doubled bilinearly, cropped right and below at an odd size, joined with the skip behind it."""
    head = TransUNetHead((4, 6), deep_channels=8, channels=4, in_strides=(2, 4)).eval()
    skip, deepest = torch.randn(1, 4, 5, 7), torch.randn(1, 6, 3, 4)
    x = F.interpolate(head.conv_in(deepest), (6, 8), mode='bilinear')[..., :5, :7]
    x = head.blocks[0](torch.cat([x, skip], 1))
    x = head.final_block(F.interpolate(x, (10, 14), mode='bilinear'))
    torch.testing.assert_close(head((skip, deepest)), F.conv2d(x, head.conv_seg.weight, head.conv_seg.bias, padding=1))
