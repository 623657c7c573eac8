import torch
from torch import nn

from mmgfnuc.models.backbones.unet_encoder import UNetEncoder
from mmgfnuc.models.decode_heads.unetplusplus_head import UNetPlusPlusHead
from mmgfnuc.testing import DecodeHeadBattery, pyramid

CHANNELS = DecodeHeadBattery.in_channels
WIDTHS = (32, 64, 128, 256, 512)


class TestContract(DecodeHeadBattery):
    part = dict(type=UNetPlusPlusHead)


class TestContractDeeplySupervised(DecodeHeadBattery):
    part = dict(type=UNetPlusPlusHead, deep_supervision=True)
    loss_keys = {f'{level}{key}' for level in ('', 'aux_1.', 'aux_2.') for key in ('loss_dice_focal', 'acc_seg')}


def test_published_parameters():
    """9,041,601 in the authors' release (9.04 M in the paper): one image channel, one sigmoid output, no norms.

    Where the release gives a convolution a bias, ours has a norm of twice as many parameters; the second class has
    a filter of 32 weights and a bias.
    """
    with torch.device('meta'):
        network = nn.Sequential(UNetEncoder(1, WIDTHS), UNetPlusPlusHead(WIDTHS))
    norms = sum(p.numel() for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    total = sum(p.numel() for p in network.parameters())
    assert total - norms + norms // 2 - (32 + 1) == 9_041_601


def test_parameters_of_deep_supervision():
    """Three more 1x1 classifiers of two classes."""
    with torch.device('meta'):
        plain, deep = UNetPlusPlusHead(WIDTHS), UNetPlusPlusHead(WIDTHS, deep_supervision=True)
    count = [sum(p.numel() for p in head.parameters()) for head in (plain, deep)]
    assert count[1] - count[0] == 3 * (32 * 2 + 2)


def test_nodes_written_out():
    """The figure of the paper for three levels, at an odd size."""
    channels = (4, 6, 8)
    head = UNetPlusPlusHead(channels, deep_supervision=True).eval()
    x00, x10, x20 = pyramid(2, 9, 14, channels)
    (node01, node11), (node02,) = head.nodes
    x01 = node01.convs(torch.cat([x00, node01.up(x10)[..., :9, :14]], 1))
    x11 = node11.convs(torch.cat([x10, node11.up(x20)[..., :5, :7]], 1))
    x02 = node02.convs(torch.cat([x00, x01, node02.up(x11)[..., :9, :14]], 1))
    logits = [head.conv_seg(x02), head.side_classifiers[0](x01)]
    for own, expected in zip(head.outputs((x00, x10, x20)), logits, strict=True):
        torch.testing.assert_close(own, expected)
    torch.testing.assert_close(head((x00, x10, x20)), (logits[0] + logits[1]) / 2)


def test_prediction_without_deep_supervision_is_the_last_node():
    head, levels = UNetPlusPlusHead(CHANNELS).eval(), pyramid(1, 16, 16)
    (output,) = head.outputs(levels)
    torch.testing.assert_close(head(levels), output, rtol=0, atol=0)
    torch.testing.assert_close(output, head.conv_seg(head.decode(levels)[-1]))


def test_node_j_is_a_unet_of_depth_j():
    """X[0, j] sees the levels down to j and none below: the paper's pruning rests on it."""
    head = UNetPlusPlusHead(CHANNELS).eval()
    levels = [level.requires_grad_() for level in pyramid(1, 32, 32)]
    for j, node in enumerate(head.decode(levels), start=1):
        gradients = torch.autograd.grad(node.square().sum(), levels, allow_unused=True, retain_graph=True)
        assert [g is not None and bool(g.any()) for g in gradients] == [level <= j for level in range(len(CHANNELS))]
