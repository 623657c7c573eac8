import itertools

import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.models.decode_heads.ddunet_head import DDUNetHead, DilatedConvolutionAttention
from mmgfnuc.testing import DecodeHeadBattery, fill_with_noise, pyramid

CHANNELS = DecodeHeadBattery.in_channels


class TestContract(DecodeHeadBattery):
    part = dict(type=DDUNetHead, dcam_channels=8)


def test_size_at_the_widths_of_unet():
    """The sum by hand; no count is published that this head could be held against."""
    widths = (64, 128, 256, 512, 1024)
    small = (16, 32, 64, 128, 1024)

    def conv(size, a, b):
        return size * size * a * b + 2 * b

    def decoder(own):
        """Each level: its skip and the own level below, convolved twice."""
        return sum(conv(3, widths[i] + own[i + 1], own[i]) + conv(3, own[i], own[i]) for i in range(4))

    # A hidden layer of 256 / 16, used for both poolings, and a 7x7 convolution of two maps with its norm.
    cbam = 2 * 256 * 16 + 49 * 2 + 2
    dcam = conv(3, 1024, 256) + 3 * conv(3, 256, 256) + (1024 * 256 + 256) + 5 * cbam + conv(1, 5 * 256, 1024)
    with torch.device('meta'):
        head = DDUNetHead(widths)
    assert sum(p.numel() for p in head.parameters()) == dcam + decoder(widths) + decoder(small) + 2 * (64 + 16) + 2


def influence(module, x):
    """Where the input changes the centre of the output: rows and columns, relative to the centre."""
    x.requires_grad_()
    output = module(x)
    middle = output.shape[-1] // 2
    (grad,) = torch.autograd.grad(output[..., middle, middle].sum(), x)
    return (grad.abs().sum(dim=(0, 1)).nonzero() - middle).tolist()


def test_cascade_sees_3_7_15_and_31_pixels():
    dcam = fill_with_noise(DilatedConvolutionAttention(4, 8), scale=1.0).eval()
    for depth, reach in zip(range(1, 5), (1, 3, 7, 15), strict=True):
        # Without the rectifiers, all that is connected counts.
        cascade = torch.nn.Sequential(*(layer for block in dcam.cascade[:depth] for layer in list(block)[:2]))
        # All rates together leave no gap.
        seen = itertools.product(range(-reach, reach + 1), repeat=2)
        assert influence(cascade, torch.randn(1, 4, 41, 41)) == [list(place) for place in seen]


def test_pooling_branch_sees_every_pixel():
    dcam = fill_with_noise(DilatedConvolutionAttention(4, 8), scale=1.0).eval()
    assert len(influence(dcam, torch.rand(1, 4, 41, 41))) == 41 * 41


def test_dcam_written_out():
    dcam = fill_with_noise(DilatedConvolutionAttention(3, 2), scale=0.5).eval()
    for module in dcam.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)

    def norm(layer, x):
        return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)

    def cbam(module, x):
        """Woo et al. 2018, equations 2 and 3: which channels count, then which pixels."""
        first, second = (conv.weight[:, :, 0, 0] for conv in (module.channel.fc1, module.channel.fc2))
        average, largest = x.flatten(2).mean(2), x.flatten(2).max(2).values
        hidden = [(pooled @ first.T).clamp(min=0) @ second.T for pooled in (average, largest)]
        x = x * (hidden[0] + hidden[1]).sigmoid()[..., None, None]
        maps = torch.stack([x.mean(1), x.max(1).values], dim=1)
        gate = norm(module.spatial.conv.bn, F.conv2d(maps, module.spatial.conv.conv.weight, padding=3))
        return x * gate.sigmoid()

    x = torch.rand(2, 3, 12, 9)
    branches, dilated = [], x
    for (conv, bn, _), dilation in zip(dcam.cascade, (1, 2, 4, 8), strict=True):
        dilated = norm(bn, F.conv2d(dilated, conv.weight, padding=dilation, dilation=dilation)).clamp(min=0)
        branches.append(dilated)
    pooled = x.mean((2, 3)) @ dcam.pool[1].weight[:, :, 0, 0].T + dcam.pool[1].bias
    branches.append(pooled.clamp(min=0)[..., None, None].expand(2, 2, 12, 9))
    joined = torch.cat([cbam(module, branch) for module, branch in zip(dcam.attentions, branches, strict=True)], 1)
    expected = norm(dcam.project[1], F.conv2d(joined, dcam.project[0].weight)).clamp(min=0)
    torch.testing.assert_close(dcam(x), expected)


@pytest.mark.parametrize('decoder', ['main_decoder', 'small_decoder'])
def test_both_decoders_are_merged(decoder):
    head, levels = TestContract().build(TestContract.part).eval(), pyramid(1, 32, 32)
    both = head(levels)
    with torch.no_grad():
        for parameter in getattr(head, decoder).parameters():
            parameter.zero_()
    assert (head(levels) != both).any()


def test_small_decoder_has_a_quarter_of_the_width():
    head = DDUNetHead((8, 16, 20, 24), dcam_channels=8)
    assert [stage.convs[-1][0].out_channels for stage in head.main_decoder.stages] == [20, 16, 8]
    assert [stage.convs[-1][0].out_channels for stage in head.small_decoder.stages] == [5, 4, 2]


@pytest.mark.parametrize('sizes', [(40, 10, 5, 3), (33, 33, 9, 1)])
def test_any_strides(sizes):
    levels = [torch.randn(2, c, side, side + 2) for c, side in zip(CHANNELS, sizes, strict=True)]
    logits = TestContract().build(TestContract.part)(levels)
    assert logits.shape == (2, 2, sizes[0], sizes[0] + 2)
    assert logits.isfinite().all()
