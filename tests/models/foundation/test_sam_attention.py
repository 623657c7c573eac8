import pytest
import torch
from segment_anything.modeling.image_encoder import Attention
from torch.nn import functional as F

from mmgfnuc.models.foundation import sam_attention
from mmgfnuc.models.foundation.sam_attention import FusedAttention
from mmgfnuc.testing import fill_with_noise

SIZES = [(14, 14), (9, 9), (10, 7), (20, 33), (1, 5)]


@pytest.fixture(params=['biased', 'folded'])
def pair(request, monkeypatch):
    """segment-anything's attention and ours with its parameters, one of the ways; without gradients the third."""
    limit = 10**9 if request.param == 'biased' else 0
    monkeypatch.setattr(sam_attention, 'MAX_BIASED_TOKENS', limit)
    monkeypatch.setattr(sam_attention, 'CHUNK', 13)  # of which no size is a multiple
    settings = dict(dim=32, num_heads=2, qkv_bias=True, use_rel_pos=True, input_size=(14, 14))
    official, own = fill_with_noise(Attention(**settings), 0.3), FusedAttention(**settings)
    own.load_state_dict(official.state_dict(), strict=True)
    return official, own


@pytest.mark.parametrize('size', SIZES)
def test_equals_segment_anything(pair, size):
    official, own = pair
    x = torch.randn(3, *size, 32)
    expected = official(x)
    assert expected.std() > 0.1
    torch.testing.assert_close(own(x), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(own(x), expected, rtol=1e-4, atol=1e-4)
        with torch.autocast('cpu', torch.bfloat16):
            assert (own(x) - expected).abs().mean() < 0.05 * expected.std()


def test_has_the_same_gradients(pair):
    official, own = pair
    x = torch.randn(2, 10, 7, 32, requires_grad=True)
    weights = torch.randn(2, 10, 7, 32)
    for module in pair:
        (module(x) * weights).sum().backward()
    for (name, expected), actual in zip(official.named_parameters(), own.parameters(), strict=True):
        assert expected.grad.any(), name
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-3, atol=1e-3)


def test_many_tokens_never_meet_in_one_matrix(monkeypatch):
    """What the kernel is given grows with the tokens, not with their pairs: no bias, widths of a head and two codes."""
    given = []
    kernel = F.scaled_dot_product_attention

    def spy(query, key, value, **settings):
        given.append((query.shape, key.shape, value.shape, settings))
        return kernel(query, key, value, **settings)

    monkeypatch.setattr(sam_attention.F, 'scaled_dot_product_attention', spy)
    attention = FusedAttention(32, 2, use_rel_pos=True, input_size=(64, 64))
    attention(torch.randn(1, 64, 64, 32))
    shape = (1, 2, 64 * 64, 16 + 64 + 64)
    assert given == [(shape, shape, shape, {'scale': 1.0})]


@pytest.mark.parametrize(('threads', 'heads'), [(2, 1), (8, 2)])
@torch.no_grad()
def test_a_part_of_the_bias_at_a_time(threads, heads, monkeypatch):
    """Of so many heads that each thread has 256 queries."""
    given = []
    kernel = F.scaled_dot_product_attention

    def spy(query, key, value, attn_mask):
        given.append((query.shape, attn_mask.shape))
        return kernel(query, key, value, attn_mask=attn_mask)

    monkeypatch.setattr(sam_attention.F, 'scaled_dot_product_attention', spy)
    monkeypatch.setattr(sam_attention.torch, 'get_num_threads', lambda: threads)
    FusedAttention(32, 2, use_rel_pos=True, input_size=(64, 64))(torch.randn(1, 64, 64, 32))
    assert len(given) == 8 / heads
    assert set(given) == {((1, heads, 1024, 16), (1, heads, 1024, 64 * 64))}
