import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmgfnuc.models.backbones.unet_encoder import UNetEncoder
from mmgfnuc.models.decode_heads.channel_transformer import (
    ChannelCrossAttention,
    ChannelTransformer,
    Reconstruction,
)
from mmgfnuc.models.decode_heads.uctransnet_head import SkipGate, UCTransNetHead
from mmgfnuc.testing import DecodeHeadBattery, fill_with_noise, pyramid

CHANNELS = DecodeHeadBattery.in_channels
WIDTHS = (64, 128, 256, 512, 512)


class TestContract(DecodeHeadBattery):
    part = dict(type=UCTransNetHead, num_layers=2, num_heads=2)


def count(module):
    return sum(p.numel() for p in module.parameters())


def released_count():
    """The authors' release, layer by layer: images of 224x224 pixels, 1 class, 4 layers, 4 heads, patches 16 to 2."""
    convs = [(3, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 512), (512, 512)]
    convs += [(1024, 256), (256, 256), (512, 128), (128, 128), (256, 64), (64, 64), (128, 64), (64, 64)]
    unet = sum(9 * a * b + 3 * b for a, b in convs) + 64 + 1
    gates = sum(2 * (c * c + c) for c in WIDTHS[:4])
    channels, joined = WIDTHS[:4], sum(WIDTHS[:4])
    squares = sum(c * c for c in channels)
    embeddings = sum(c * c * patch**2 + c + 14 * 14 * c for c, patch in zip(channels, (16, 8, 4, 2), strict=True))
    attention = 4 * squares + 4 * 2 * joined**2 + squares
    layer = attention + 2 * 4 * squares + 5 * joined + 3 * 2 * joined
    reconstructions = squares + 3 * joined
    return unet + gates + embeddings + 4 * layer + 2 * joined + reconstructions


def test_published_size():
    """66.4 M: the layers of the authors' release, counted (it prints no number). Here the network has

    - no bias in the convolutions before a batch norm;
    - two convolutions in the first stage, as in all others (the release has one there);
    - two softmax channels instead of one sigmoid channel.
    """
    assert released_count() == 66_430_657
    biases = (64 + 2 * (128 + 256 + 512 + 512)) + 2 * (256 + 128 + 64 + 64) + sum(WIDTHS[:4])
    second_conv = 9 * 64 * 64 + 2 * 64
    with torch.device('meta'):
        size = count(UNetEncoder(widths=WIDTHS)) + count(UCTransNetHead(WIDTHS))
    assert size == released_count() - biases + second_conv + 64 + 1


def test_channel_cross_attention_by_definition():
    """Each score, its normalisation, its softmax and each weighted sum written out."""
    channels, joined_channels, num_heads, tokens = (2, 3), 5, 2, 4
    attention = fill_with_noise(ChannelCrossAttention(channels, num_heads, dropout=0.1), scale=1.0).eval()
    levels = [torch.randn(2, tokens, c) for c in channels]
    joined = torch.randn(2, tokens, joined_channels)
    outputs = attention(levels, joined)
    for level, query_map, out, output in zip(levels, attention.queries, attention.outs, outputs, strict=True):
        width = level.shape[2]
        for image in range(2):
            total = torch.zeros(tokens, width)
            for head in range(num_heads):
                rows = slice(head * joined_channels, (head + 1) * joined_channels)
                query = level[image] @ query_map.weight[head * width : (head + 1) * width].T
                key, value = (
                    joined[image] @ attention.key.weight[rows].T,
                    joined[image] @ attention.value.weight[rows].T,
                )
                scores = torch.empty(width, joined_channels)
                for mine, other in itertools.product(range(width), range(joined_channels)):
                    scores[mine, other] = sum(query[n, mine] * key[n, other] for n in range(tokens))
                scores /= math.sqrt(joined_channels)
                mean = scores.mean()
                normed = (scores - mean) / ((scores - mean).square().mean() + 1e-5).sqrt()
                for mine, n in itertools.product(range(width), range(tokens)):
                    weights = normed[mine].exp() / normed[mine].exp().sum()
                    total[n, mine] += (weights * value[n]).sum() / num_heads
            torch.testing.assert_close(output[image], total @ out.weight.T)


def test_channel_gate_by_definition():
    gate = fill_with_noise(SkipGate(3, 2), scale=1.0)
    deep, skip = torch.randn(2, 3, 4, 5), torch.randn(2, 2, 4, 5)
    gated = gate(deep, skip)
    for image, channel in itertools.product(range(2), range(2)):
        value = gate.from_skip.bias[channel] + gate.from_deep.bias[channel]
        value = value + sum(gate.from_skip.weight[channel, c] * skip[image, c].mean() for c in range(2))
        value = value + sum(gate.from_deep.weight[channel, c] * deep[image, c].mean() for c in range(3))
        expected = skip[image, channel] / (1 + (-value / 2).exp())
        torch.testing.assert_close(gated[image, channel], expected.clamp(min=0))


@pytest.mark.parametrize('training', [True, False])
def test_reconstruction_is_that_of_the_original_order(training):
    """The original up-samples, then convolves, normalises and rectifies."""
    module = fill_with_noise(Reconstruction(3), scale=1.0).train(training)
    module.project[1].running_mean.normal_()
    module.project[1].running_var.uniform_(0.5, 2)
    tokens = torch.randn(2, 12, 3)
    maps = F.layer_norm(tokens, (3,), module.norm.weight, module.norm.bias, 1e-6).mT.reshape(2, 3, 3, 4)
    expected = module.project(nn.Upsample(scale_factor=8)(maps))
    torch.testing.assert_close(module(tokens, (3, 4), (24, 32)), expected)


def test_a_token_stands_for_the_same_place_on_all_levels():
    transformer = ChannelTransformer((2, 3, 4, 5), num_layers=1, num_heads=1, dropout=0.0)
    assert [embedding.patch_size for embedding in transformer.embeddings] == [16, 8, 4, 2]
    for level, embed in enumerate(transformer.embeddings):
        side = 224 // 2**level
        skip = torch.zeros(1, embed.project.in_channels, side, side)
        changed = skip.clone()
        # The pixel that covers row 100, column 70 of the image.
        changed[..., 100 >> level, 70 >> level] = 1.0
        moved = (embed(changed, (14, 14)) != embed(skip, (14, 14))).any(dim=2)[0]
        assert moved.nonzero().flatten().tolist() == [100 // 16 * 14 + 70 // 16]


def test_position_is_kept_at_the_published_size_and_resampled_at_others():
    embed = ChannelTransformer((2, 3), num_layers=1, num_heads=1, dropout=0.0).embeddings[1]
    fill_with_noise(embed)
    nothing = torch.zeros(1, 3, 28, 28)
    plain = embed.position.flatten(2).mT + embed.project.bias
    torch.testing.assert_close(embed(nothing, (14, 14)), plain)
    with torch.no_grad():
        # A ramp from left to right stays one on a wider grid.
        embed.position.copy_(torch.arange(14.0).expand(1, 3, 14, 14))
    wide = embed(nothing, (14, 28)).reshape(14, 28, 3)[..., 0] - embed.project.bias[0]
    torch.testing.assert_close(wide[:, 1:-1], ((torch.arange(28.0) + 0.5) / 2 - 0.5)[1:-1].expand(14, 26))


@pytest.mark.parametrize('sizes', [(40, 10, 5, 3), (33, 33, 9, 1)])
def test_any_strides(sizes):
    levels = [torch.randn(2, c, side, side + 2) for c, side in zip(CHANNELS, sizes, strict=True)]
    logits = TestContract().build(TestContract.part)(levels)
    assert logits.shape == (2, 2, sizes[0], sizes[0] + 2)
    assert logits.isfinite().all()


def test_all_skips_see_each_other():
    transformer = ChannelTransformer((2, 3, 4), num_layers=1, num_heads=1, dropout=0.0).eval()
    for source in range(3):
        skips = [skip.requires_grad_() for skip in pyramid(1, 32, 32, (2, 3, 4))]
        fused = transformer(skips)
        for target in range(3):
            (grad,) = torch.autograd.grad(fused[target].square().sum(), skips[source], retain_graph=True)
            assert grad.any(), (source, target)
