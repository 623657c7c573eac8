import math

import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.errors import UserError
from mmgfnuc.models.necks import ContextFusionBlock, GatedFusionBlock
from mmgfnuc.models.necks.context_fusion_block import position_encoding, with_position
from mmgfnuc.testing import fill_with_noise

from .oracles import ExplainedBattery, count, entropy_by_loops, gate_by_loops, official_attention, to_tokens


def encoding_by_hand(row, column, channels):
    """A quarter of the channels each for sine and cosine of the row, sine and cosine of the column."""
    quarter = math.ceil(channels / 4)
    scaled = [[position / 10_000 ** (i / quarter) for i in range(quarter)] for position in (row, column)]
    return [wave(value) for axis in scaled for wave in (math.sin, math.cos) for value in axis][:channels]


def encodings_by_hand(grid, level, channels):
    """Encodings (C, h, w) of where the centres of the cells of a grid lie on a level, in its pixels."""
    steps = [[(i + 0.5) * full / own for i in range(own)] for own, full in zip(grid, level, strict=True)]
    rows = [[encoding_by_hand(row, column, channels) for column in steps[1]] for row in steps[0]]
    return torch.tensor(rows).permute(2, 0, 1)


def query_and_tokens(block, local, context):
    """The three inputs of the attention, and the gate, without the block's own forward."""
    gate = gate_by_loops(block.gate, local, context)
    gated = gate[:, :, None, None] * local
    weight, bias = block.project.weight[:, :, 0, 0], block.project.bias
    tokens = torch.einsum('cd,bdhw->bchw', weight, context) + bias[:, None, None]
    query, tokens = (
        F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], norm.weight, norm.bias).permute(0, 3, 1, 2)
        for x, norm in ((gated, block.norm_local), (tokens, block.norm_tokens))
    )
    codes = [encodings_by_hand(x.shape[-2:], local.shape[-2:], x.shape[1]) for x in (query, tokens)]
    return gate, query + codes[0], tokens + codes[1], tokens


class TestContextFusionBlock(ExplainedBattery):
    parts = [
        dict(type=ContextFusionBlock, reduction=1),
        dict(type=ContextFusionBlock, reduction=1, num_heads=1, max_keys=4),
    ]

    @torch.no_grad()
    def explained(self, block, local, context):
        if block.attention.max_keys == 4:
            context = F.avg_pool2d(context, 2, ceil_mode=True, count_include_pad=False)
        gate = gate_by_loops(block.gate, local, context)
        _, query, key, _ = query_and_tokens(block, local, context)
        return {'gate': gate, 'attention_entropy': entropy_by_loops(block.attention, query, key)}

    # A grid of 4 x 4 pools to 2 x 2 cells of one size, whose mean is that of the tokens: one gate for both.
    def features(self, block, batch=2, size=(5, 7), grid=(4, 4)):
        return super().features(block, batch, size, grid)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('settings', [{}, {'num_heads': 1, 'max_keys': 3}], ids=str)
def test_starts_as_the_identity_on_the_local_map(settings, training):
    """Exactly, whatever the context is."""
    block = ContextFusionBlock(8, 6, **settings).train(training)
    local = torch.randn(2, 8, 5, 7)
    for context in (torch.randn(2, 6, 3, 4), 1e4 * torch.randn(2, 6, 9, 9), torch.zeros(2, 6, 2, 2)):
        assert torch.equal(block(local, context), local)


@pytest.mark.parametrize('num_heads', [1, 4])
@pytest.mark.parametrize(('size', 'grid'), [((5, 7), (3, 4)), ((4, 4), (4, 4)), ((3, 2), (6, 5))])
@torch.no_grad()
def test_by_the_formula(num_heads, size, grid):
    """local + attention of torch over layer norms, a matrix product and encodings made one by one."""
    block = fill_with_noise(ContextFusionBlock(12, 6, num_heads, reduction=2), 0.5).eval()
    local, context = torch.randn(2, 12, *size), torch.randn(2, 6, *grid)
    _, query, key, value = query_and_tokens(block, local, context)
    attended = official_attention(block.attention)(*map(to_tokens, (query, key, value)), need_weights=False)[0]
    expected = local + attended.mT.unflatten(2, size)
    torch.testing.assert_close(block(local, context), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_tokens_that_reach_beyond_the_level():
    """2 x 3 tokens of 4 pixels over a level of 7 x 9: as if the level, too, were 8 x 12, and cropped."""
    block = fill_with_noise(ContextFusionBlock(8, 6), 0.5).eval()
    block.gate.forward = lambda local, context: torch.ones(1, 8, 1, 1)
    local, context = torch.randn(2, 8, 8, 12), torch.randn(2, 6, 2, 3)
    whole = block(local, context)
    torch.testing.assert_close(block(local[..., :7, :9], context, (4, 4)), whole[..., :7, :9])


@pytest.mark.parametrize(('channels', 'heads'), [(3, 3), (64, 4), (6, 3), (10, 2), (7, 1)])
def test_default_heads_divide_the_channels(channels, heads):
    assert ContextFusionBlock(channels, 6).attention.num_heads == heads


@torch.no_grad()
def test_too_many_tokens_are_pooled_before_they_get_a_position():
    """As if the encoder had given the means of its tokens, the gate apart, which knows all of them."""
    block = fill_with_noise(ContextFusionBlock(8, 6, max_keys=6), 0.5).eval()
    free = ContextFusionBlock(8, 6).eval()
    free.load_state_dict(block.state_dict())
    local, context = torch.randn(2, 8, 5, 5), torch.randn(2, 6, 4, 6)
    pooled = context.unflatten(2, (2, 2)).unflatten(4, (3, 2)).mean((3, 5))
    torch.testing.assert_close(block(local, context), free(local, pooled))
    assert not torch.allclose(block(local, context), free(local, context), atol=1e-3)


@pytest.mark.parametrize('channels', [1, 2, 5, 8, 16])
def test_position_encoding_by_hand(channels):
    rows, columns = torch.tensor([0.0, 0.5, 7.25]), torch.tensor([1.5, 300.0])
    codes = position_encoding(rows, columns, channels)
    assert codes.shape == (channels, 3, 2)
    for i, j in ((0, 0), (1, 1), (2, 0), (2, 1)):
        expected = encoding_by_hand(rows[i].item(), columns[j].item(), channels)
        torch.testing.assert_close(codes[:, i, j], torch.tensor(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('grid', 'level'), [((4, 6), (4, 6)), ((2, 3), (4, 6)), ((8, 6), (4, 2)), ((3, 5), (7, 7)), ((1, 1), (5, 9))]
)
def test_positions_are_in_pixels_of_the_level(grid, level):
    x = torch.randn(2, 8, *grid)
    expected = x + encodings_by_hand(grid, level, 8)
    step = (level[0] / grid[0], level[1] / grid[1])
    torch.testing.assert_close(with_position(x, step), expected, rtol=1e-4, atol=1e-5)


def draw():
    """Features and a target: the local map plus, of variance 1, what the context of the same place says."""
    local, context = torch.randn(8, 8, 3, 3), torch.randn(8, 4, 3, 3)
    return local, context, local + torch.cat([context, -context], 1)


def trained(block, steps):
    """Fit a block to the targets; return the mean squared error of the last ten steps."""
    optimizer = torch.optim.Adam(block.parameters(), lr=3e-2)
    errors = []
    for _ in range(steps):
        local, context, target = draw()
        error = (block(local, context) - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    return sum(errors[-10:]) / 10


def swapped(context):
    """Exchange the tokens of two places."""
    tokens = context.clone()
    tokens[..., 0, 0], tokens[..., 2, 1] = context[..., 2, 1], context[..., 0, 0]
    return tokens


def test_learns_what_the_encoder_says_of_a_place():
    """Who knows only the means of the context is left with an error of 8 / 9."""
    block = ContextFusionBlock(8, 4, num_heads=1, reduction=1)
    assert trained(block, 200) < 0.1
    local, context, _ = draw()
    moved = block(local, swapped(context)) - block(local, context)
    expected = torch.cat([swapped(context) - context, context - swapped(context)], 1)
    assert (moved - expected).square().mean() < 0.02 * expected[..., 0, 0].square().mean()


@pytest.mark.parametrize('preset', ['paper', 'released', 'gate-only', 'attention-only'])
def test_the_block_of_the_paper_cannot_learn_it(preset):
    block = GatedFusionBlock(8, 4, preset=preset, reduction=1)
    assert trained(block, 20) > 0.8
    block.eval()
    local, context, _ = draw()
    torch.testing.assert_close(block(local, swapped(context)), block(local, context))


def test_parameters():
    """By hand, with C = 512 and D = 256, hidden (C + D) / 16 = 48.

    Gate 48 (768 + 1) + 1024 (48 + 1) = 87,088; projection 512 (256 + 1) = 131,584; two norms 2 x 1,024 = 2,048;
    attention 4 x 512 x 513 = 1,050,624.
    """
    assert count(ContextFusionBlock(512, 256)) == 87_088 + 131_584 + 2_048 + 1_050_624


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'attention': False}, 'ContextFusionBlock is nothing without attention; leave attention_levels out'),
        ({'num_heads': 3}, 'num_heads=3 does not divide the 8 channels; take a divisor'),
        ({'max_keys': 0}, 'max_keys=0 leaves no key; give 1 or more, or None for no limit'),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        ContextFusionBlock(8, 4, **settings)
