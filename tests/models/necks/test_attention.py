import pytest
import torch
import torch.nn.functional as F

from mmgfnuc.errors import UserError
from mmgfnuc.models.necks import attention
from mmgfnuc.models.necks.attention import TokenAttention, pool, pool_factor
from mmgfnuc.testing import fill_with_noise

from .oracles import entropy_by_loops, official_attention, to_tokens


def build(channels=8, num_heads=2, max_keys=None):
    return fill_with_noise(TokenAttention(channels, num_heads, max_keys), scale=0.5).eval()


def pooled_by_hand(x, factor):
    """Means of the cells of `factor` x `factor` pixels; those at the border are smaller."""
    rows, columns = (range(0, side, factor) for side in x.shape[-2:])
    cells = [[x[..., i : i + factor, j : j + factor].mean((-2, -1)) for j in columns] for i in rows]
    return torch.stack([torch.stack(row, -1) for row in cells], -2)


@pytest.mark.parametrize('num_heads', [1, 2, 8])
@pytest.mark.parametrize('grid', [(5, 3), (2, 7), (1, 1)])
def test_is_that_of_torch(num_heads, grid):
    own = build(num_heads=num_heads)
    query, key, value = torch.randn(2, 8, 5, 3), torch.randn(2, 8, *grid), torch.randn(2, 8, *grid)
    expected = official_attention(own)(*map(to_tokens, (query, key, value)), need_weights=False)[0]
    torch.testing.assert_close(own(query, key, value), expected.mT.unflatten(2, (5, 3)))


def test_gradients_are_those_of_torch():
    own = build()
    official = official_attention(own).train()
    query, memory = torch.randn(2, 8, 4, 3), torch.randn(2, 8, 2, 5)
    own(query, memory, memory).square().sum().backward()
    official(to_tokens(query), to_tokens(memory), to_tokens(memory))[0].square().sum().backward()
    weights = torch.cat([own.query.weight.grad, own.key.weight.grad, own.value.weight.grad])
    torch.testing.assert_close(weights, official.in_proj_weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own.out.weight.grad, official.out_proj.weight.grad, rtol=1e-4, atol=1e-4)


def test_memory_is_linear_in_the_tokens_by_the_function_of_torch(monkeypatch):
    """All scores and weights are left to `scaled_dot_product_attention`, without a mask, which costs its fast forms."""
    calls = []

    def recorded(query, key, value, **settings):
        calls.append([tuple(x.shape) for x in (query, key, value)])
        assert not settings
        return original(query, key, value)

    original = F.scaled_dot_product_attention
    monkeypatch.setattr(F, 'scaled_dot_product_attention', recorded)
    own = build(channels=8, num_heads=2, max_keys=6)
    own(torch.randn(3, 8, 5, 4), torch.randn(3, 8, 4, 6), torch.randn(3, 8, 4, 6))
    assert calls == [[(3, 2, 20, 4), (3, 2, 6, 4), (3, 2, 6, 4)]]


@pytest.mark.parametrize('batch', [1, 2])
def test_strides_are_those_of_channels_last(batch):
    """Of a single image too, whose first stride has no meaning but decides what PyTorch takes the map for."""
    x = torch.rand(batch, 8, 4, 6).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert TokenAttention(8, 2)(x, x, x).stride() == x.stride()


@pytest.mark.parametrize(
    ('size', 'max_pixels', 'factor'),
    [
        ((4, 6), None, 1),
        ((4, 6), 24, 1),
        ((4, 6), 23, 2),
        ((4, 6), 6, 2),
        ((4, 6), 5, 3),
        ((5, 7), 12, 2),
        ((5, 7), 11, 3),
        ((2, 9), 1, 9),
        ((1, 10), 4, 3),
        ((13, 11), 20, 3),
    ],
)
def test_keys_are_pooled_by_the_smallest_factor(size, max_pixels, factor):
    x = torch.randn(2, 3, *size)
    assert pool_factor(size, max_pixels) == factor
    pooled = pool(x, factor)
    torch.testing.assert_close(pooled, pooled_by_hand(x, factor))
    if max_pixels is not None:
        assert pooled[0, 0].numel() <= max_pixels
    if factor > 1:
        assert pooled_by_hand(x, factor - 1)[0, 0].numel() > max_pixels


def test_pooling_within_the_limit_copies_nothing():
    x = torch.randn(1, 2, 4, 4)
    assert pool(x, pool_factor((4, 4), 16)) is x


def test_attends_to_pooled_keys_and_values_with_every_query():
    own = build(max_keys=6)
    query, key, value = (torch.randn(2, 8, 4, 6) for _ in range(3))
    pooled = [pooled_by_hand(x, 2) for x in (key, value)]
    expected = official_attention(own)(*map(to_tokens, (query, *pooled)), need_weights=False)[0]
    torch.testing.assert_close(own(query, key, value), expected.mT.unflatten(2, (4, 6)))


@pytest.mark.parametrize('at_once', [1, 4, 1024])
@pytest.mark.parametrize('num_heads', [1, 4])
def test_entropy_by_brute_force(num_heads, at_once, monkeypatch):
    """Whatever number of queries is taken at once, divisor or not."""
    monkeypatch.setattr(attention, 'QUERIES_AT_ONCE', at_once)
    own = build(num_heads=num_heads)
    query, key = torch.randn(2, 8, 3, 5), torch.randn(2, 8, 4, 2)
    entropy = own.entropy(query, key)
    assert entropy.shape == (2, num_heads, 3, 5)
    assert not entropy.requires_grad
    torch.testing.assert_close(entropy, entropy_by_loops(own, query, key), rtol=1e-4, atol=1e-5)


def test_entropy_of_pooled_keys():
    own = build(max_keys=4)
    query, key = torch.randn(1, 8, 2, 3), torch.randn(1, 8, 4, 3)
    expected = entropy_by_loops(own, query, pooled_by_hand(key, 2))
    torch.testing.assert_close(own.entropy(query, key), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'num_heads': 3}, 'num_heads=3 does not divide the 8 channels; take a divisor'),
        ({'max_keys': 0}, 'max_keys=0 leaves no key; give 1 or more, or None for no limit'),
        ({'max_keys': -4}, 'max_keys=-4 leaves no key'),
    ],
)
def test_errors(settings, message):
    with pytest.raises(UserError, match=message):
        build(**settings)
