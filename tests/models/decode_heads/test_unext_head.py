import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmgfnuc.models.backbones.unext_encoder import UNeXtEncoder
from mmgfnuc.models.decode_heads.unext_head import UNeXtHead
from mmgfnuc.models.layers.shifted_mlp import TokenizedMLP

from ..tiny import fill_with_noise
from .battery import CHANNELS, DecodeHeadBattery, pyramid


class TestContract(DecodeHeadBattery):
    def build(self, in_channels, **settings):
        return UNeXtHead(in_channels, **settings)

    @pytest.mark.parametrize('batch', [1, 2])
    @pytest.mark.parametrize('size', [(64, 64), (33, 47), (25, 70)])
    def test_shapes(self, size, batch):
        """Twice as fine as level 0."""
        assert self.build(CHANNELS)(pyramid(batch, *size)).shape == (batch, 2, 2 * size[0], 2 * size[1])

    @pytest.mark.parametrize('depth', [2, 3, 5])
    def test_depths(self, depth):
        channels = (4, 6, 8, 10, 12)[:depth]
        assert self.build(channels)(pyramid(1, 32, 32, channels)).shape == (1, 2, 64, 64)

    def test_number_of_classes(self):
        assert self.build(CHANNELS, num_classes=5)(pyramid(1, 16, 16)).shape == (1, 5, 32, 32)


def test_published_number_of_parameters():
    """1.47 M in the paper; 1,471,921 in the authors' code with one output channel.

    There the convolutions before the batch norms have a bias, which the norms remove: one parameter per normalised
    channel that is left out here.
    """
    with torch.device('meta'):
        backbone = UNeXtEncoder()
        network = nn.ModuleList([backbone, UNeXtHead(backbone.out_channels, num_classes=1, threshold=0.5)])
    normalised = [module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert normalised == [16, 32, 128, 160, 128, 32, 16]
    assert sum(p.numel() for p in network.parameters()) + sum(normalised) == 1_471_921


def test_written_out():
    """Three steps, the two deepest end in an MLP; then a convolution and the image's size."""
    head = fill_with_noise(UNeXtHead(CHANNELS), scale=0.5).eval()
    *skips, x = levels = pyramid(2, 21, 30)

    def up(x, size):
        return F.interpolate(x, size, mode='bilinear', align_corners=False)

    assert [isinstance(step.mlp, TokenizedMLP) for step in head.steps] == [True, True, False]
    with torch.no_grad():
        for step, skip in zip(head.steps, reversed(skips), strict=True):
            norm = step.norm
            x = F.conv2d(x, step.conv.weight, padding=1)
            x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
            x = step.mlp(up(x, skip.shape[-2:]).clamp(min=0) + skip)
        x = F.conv2d(x, head.last_conv.weight, head.last_conv.bias, padding=1)
        expected = head.conv_seg(up(x, (42, 60)).clamp(min=0))
        torch.testing.assert_close(head(levels), expected)


def test_decodes_to_the_image():
    backbone = UNeXtEncoder(widths=(4, 6, 8, 10, 12))
    head = UNeXtHead(backbone.out_channels)
    assert head(backbone(torch.rand(2, 3, 64, 96))).shape == (2, 2, 64, 96)
    # An odd side is rounded up at level 0.
    assert head(backbone(torch.rand(2, 3, 65, 96))).shape == (2, 2, 66, 96)
