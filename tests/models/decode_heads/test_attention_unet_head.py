import itertools

import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.models.decode_heads.attention_unet_head import AttentionGate, AttentionUNetHead
from mmgfnuc.testing import DecodeHeadBattery, fill_with_noise, pyramid

CHANNELS = DecodeHeadBattery.in_channels


class TestContract(DecodeHeadBattery):
    parts = [
        dict(type=AttentionUNetHead),
        dict(type=AttentionUNetHead, residual=True),
        dict(type=AttentionUNetHead, deep_supervision=True),
    ]


def test_parameters_at_the_widths_of_unet():
    """The sum by hand; the paper gives counts of networks for volumes only.

    A step: two 3x3 convolutions and two norms. A gate: 2x2 on the skip, 1x1 with a bias on the level below, 1x1 to a
    single number. Four levels have a classifier, whose logits are mixed.
    """
    widths = (64, 128, 256, 512, 1024)
    pairs = list(itertools.pairwise(widths))
    steps = sum(9 * ((a + b) * a + a * a) + 4 * a for a, b in pairs)
    gates = sum(4 * a * a + (b * a + a) + (a + 1) for a, b in pairs[1:])
    classifiers = sum(2 * a + 2 for a in widths[:-1]) + 2 * 4 * 2 + 2
    with torch.device('meta'):
        head = AttentionUNetHead(widths, deep_supervision=True)
    assert sum(p.numel() for p in head.parameters()) == steps + gates + classifiers


def test_coefficients_by_hand():
    torch.manual_seed(0)
    gate = fill_with_noise(AttentionGate(3, 5), scale=1.0)
    skip, gating = torch.randn(1, 3, 4, 6), torch.randn(1, 5, 2, 3)
    coarse = torch.empty(1, 1, 2, 3)
    for row, column in itertools.product(range(2), range(3)):
        patch = skip[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        local = torch.stack([(kernel * patch).sum() for kernel in gate.project_skip.weight])
        context = gate.project_gating.weight[..., 0, 0] @ gating[0, :, row, column] + gate.project_gating.bias
        score = gate.score.weight[0, :, 0, 0] @ (local + context).clamp(min=0) + gate.score.bias
        coarse[0, 0, row, column] = 1 / (1 + (-score).exp())
    alpha = gate.attention(skip, gating)
    torch.testing.assert_close(alpha, F.interpolate(coarse, (4, 6), mode='bilinear'))
    torch.testing.assert_close(gate(skip, gating), alpha * skip)
    assert 0 < alpha.min() < 0.5 < alpha.max() < 1


def test_gate_at_an_odd_size():
    """The last row and column stand for the pixels that the 2x2 kernel would need beyond the border."""
    gate = fill_with_noise(AttentionGate(3, 5), scale=1.0)
    skip, gating = torch.randn(1, 3, 5, 7), torch.randn(1, 5, 3, 4)
    whole = gate.attention(F.pad(skip, (0, 1, 0, 1), mode='replicate'), gating)
    torch.testing.assert_close(gate.attention(skip, gating), whole[..., :5, :7])


def test_gate_follows_a_gating_signal_of_any_size():
    gate = fill_with_noise(AttentionGate(3, 5), scale=1.0)
    skip, gating = torch.randn(1, 3, 8, 8), torch.randn(1, 5, 1, 1).expand(1, 5, 2, 2)
    torch.testing.assert_close(gate(skip, gating), gate(skip, gating[..., :1, :1].expand(1, 5, 4, 4)))


def test_new_gate_is_open():
    torch.manual_seed(0)
    alpha = AttentionGate(16, 32).attention(torch.randn(2, 16, 16, 16), torch.randn(2, 32, 8, 8))
    assert alpha.mean() > 0.9
    assert alpha.min() > 0.75


def test_all_skips_but_the_shallowest_are_gated():
    """With the gates shut nothing of a gated skip gets through."""
    head = AttentionUNetHead(CHANNELS).eval()
    assert len(head.gates) == len(CHANNELS) - 2
    for gate in head.gates:
        torch.nn.init.zeros_(gate.score.weight)
        torch.nn.init.constant_(gate.score.bias, -200.0)
    levels = [level.requires_grad_() for level in pyramid(1, 32, 32)]
    head(levels).square().sum().backward()
    assert [bool(level.grad.any()) for level in levels] == [True, False, False, True]


def test_each_gate_is_steered_by_the_decoder_level_below():
    """The gate of level 1 by the decoded level 2, that of level 2 by the deepest level."""
    head = AttentionUNetHead(CHANNELS).eval()
    levels = pyramid(1, 32, 32)
    decoded = head.decode(levels)
    up = head.up_blocks
    level2 = up[2](levels[3], head.gates[1](levels[2], levels[3]))
    level1 = up[1](level2, head.gates[0](levels[1], level2))
    level0 = up[0](level1, levels[0])
    for own, expected in zip(decoded, (level0, level1, level2), strict=True):
        torch.testing.assert_close(own, expected)


@pytest.mark.parametrize('residual', [False, True])
def test_deep_supervision_mixes_the_logits_of_all_levels(residual):
    head = fill_with_noise(AttentionUNetHead(CHANNELS, residual=residual, deep_supervision=True), 0.3).eval()
    levels = pyramid(1, 32, 48)
    sides = [
        F.interpolate(F.conv2d(x, classifier.weight, classifier.bias), (32, 48), mode='bilinear')
        for x, classifier in zip(head.decode(levels), head.side_classifiers, strict=True)
    ]
    weight = head.conv_seg.weight[:, :, 0, 0].unflatten(1, (3, 2))
    mixed = sum(torch.einsum('kc,bchw->bkhw', weight[:, i], side) for i, side in enumerate(sides))
    torch.testing.assert_close(head(levels), mixed + head.conv_seg.bias[:, None, None])
