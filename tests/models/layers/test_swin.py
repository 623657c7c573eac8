import itertools

import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock

from mmgfnuc.models.layers.swin import SwinBlock, init_linear, swin_blocks, token_kinds
from mmgfnuc.testing import fill_with_noise

CHANNELS, HEADS, WINDOW = 6, 2, 4


def block_of(shifted):
    torch.manual_seed(0)
    return fill_with_noise(SwinBlock(CHANNELS, HEADS, WINDOW, shifted), scale=0.5).eval()


@pytest.mark.parametrize('size', [(8, 12), (16, 4), (4, 4)])
@pytest.mark.parametrize('shifted', [False, True])
def test_equals_timm_at_multiples_of_the_window(shifted, size):
    block = block_of(shifted)
    shift = WINDOW // 2 if shifted else 0
    official = SwinTransformerBlock(CHANNELS, size, HEADS, window_size=WINDOW, shift_size=shift).eval()
    official.load_state_dict(block.state_dict())
    x = torch.randn(2, *size, CHANNELS)
    with torch.no_grad():
        torch.testing.assert_close(block(x), official(x))


@pytest.mark.parametrize('size', [(9, 6), (5, 7), (3, 10), (2, 1), (8, 8)])
@pytest.mark.parametrize('shifted', [False, True])
@torch.no_grad()
def test_attention_by_brute_force(shifted, size):
    """Token by token, over the tokens of its window in a grid that is moved by the shift."""
    block = block_of(shifted)
    x = torch.randn(1, *size, CHANNELS)
    shifts = [WINDOW // 2 if shifted and side > WINDOW else 0 for side in size]
    queries, keys, values = block.attn.qkv(x[0]).unflatten(-1, (3, HEADS, -1)).unbind(-3)

    def window(token):
        return tuple((place - shift) // WINDOW for place, shift in zip(token, shifts, strict=True))

    tokens = list(itertools.product(range(size[0]), range(size[1])))
    expected = torch.empty_like(x)
    for row, column in tokens:
        seen = [token for token in tokens if window(token) == window((row, column))]
        logits = torch.stack(
            [(queries[row, column] * keys[r, c]).sum(-1) * (CHANNELS // HEADS) ** -0.5 for r, c in seen]
        )
        # Entry (2w - 1) * (row offset + w - 1) + (column offset + w - 1) of the table, offsets from key to query.
        places = [(2 * WINDOW - 1) * (row - r + WINDOW - 1) + column - c + WINDOW - 1 for r, c in seen]
        weights = (logits + block.attn.relative_position_bias_table[places]).softmax(0)
        summed = sum(weight[:, None] * values[r, c] for weight, (r, c) in zip(weights, seen, strict=True))
        expected[0, row, column] = block.attn.proj(summed.flatten())
    torch.testing.assert_close(block.attend(x), expected)


@pytest.mark.parametrize('shifted', [False, True])
def test_opposite_borders_do_not_see_each_other(shifted):
    """At 9 rows timm's cyclic shift would bring rows 0 and 1 next to rows 7 and 8."""
    block, x = block_of(shifted), torch.randn(1, 9, 9, CHANNELS)
    x.requires_grad_()
    block(x)[:, -1].square().sum().backward()
    assert not x.grad[:, :4].any()
    assert x.grad[:, 8].any()


def test_token_kinds():
    # 5 tokens padded to 8, moved by 2: 2 3 4, three of padding, then the wrapped 0 1.
    assert token_kinds(5, 8, 2).tolist() == [0, 0, 0, 2, 2, 2, 1, 1]
    assert token_kinds(4, 4, 0).tolist() == [0, 0, 0, 0]


def test_every_second_block_is_shifted():
    blocks = swin_blocks(CHANNELS, HEADS, 7, drop_path=(0.0, 0.1, 0.2))
    assert [block.shift_size for block in blocks] == [(0, 0), (3, 3), (0, 0)]
    rates = [getattr(block.drop_path1, 'drop_prob', 0.0) for block in blocks]
    assert rates == [0.0, 0.1, 0.2]


def test_init_linear():
    layer = torch.nn.Linear(200, 200).apply(init_linear)
    assert not layer.bias.any()
    torch.testing.assert_close(layer.weight.std().item(), 0.02, rtol=0.05, atol=0)
