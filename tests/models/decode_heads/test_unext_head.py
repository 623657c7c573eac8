import torch
import torch.nn.functional as F
from torch import nn

from mmgfnuc.models.backbones.unext_encoder import UNeXtEncoder
from mmgfnuc.models.decode_heads.unext_head import UNeXtHead
from mmgfnuc.models.layers.shifted_mlp import TokenizedMLP
from mmgfnuc.testing import DecodeHeadBattery, fill_with_noise, pyramid

CHANNELS = DecodeHeadBattery.in_channels


class TestContract(DecodeHeadBattery):
    part = dict(type=UNeXtHead)
    to_the_image = True


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
    head = fill_with_noise(UNeXtHead(CHANNELS, in_strides=(2, 4, 8, 16)), scale=0.5).eval()
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
