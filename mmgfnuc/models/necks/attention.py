"""Attention from the pixels of a level."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.errors import UserError

# Queries whose attention weights are held at once when their entropy is computed.
QUERIES_AT_ONCE = 1024


def pool_factor(size: Sequence[int], max_pixels: int | None) -> int:
    """Return the smallest whole factor whose pooling leaves at most `max_pixels` pixels of a map; 1 for None."""
    height, width = size
    factor = 1
    while max_pixels is not None and math.ceil(height / factor) * math.ceil(width / factor) > max_pixels:
        factor += 1
    return factor


def pool(x: Tensor, factor: int) -> Tensor:
    """Average-pool a map.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / factor), ceil(W / factor))
    """
    return x if factor == 1 else F.avg_pool2d(x, factor, ceil_mode=True, count_include_pad=False)


class TokenAttention(nn.Module):
    """Plain attention from the pixels of one map to those of another: no residual, norm or feed-forward part.

    `softmax(Q K^T / sqrt(C / num_heads)) V`, each of Q, K, V and the output with its own linear map. Memory is linear
    in the number of pixels (`scaled_dot_product_attention`), time is queries times keys; above `max_keys` the map of
    the keys is average-pooled first.

    Shape:
        query (B, C, H, W), key and value (B, C, h, w) -> (B, C, H, W)

    Source: docs/method.md, section "The Gated Fusion Block", step 4; the pooling of keys: Wang et al. 2021, "Pyramid
    Vision Transformer", section 3.3, there learned.
    """

    def __init__(self, channels: int, num_heads: int, max_keys: int | None = None) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise UserError(f'num_heads={num_heads} does not divide the {channels} channels; take a divisor')
        if max_keys is not None and max_keys < 1:
            raise UserError(f'max_keys={max_keys} leaves no key; give 1 or more, or None for no limit')
        self.num_heads = num_heads
        self.max_keys = max_keys
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def _heads(self, x: Tensor, project: nn.Linear) -> Tensor:
        """(B, C, H, W) -> (B, heads, H * W, C / heads)."""
        return project(x.flatten(2).transpose(1, 2)).unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend."""
        factor = pool_factor(key.shape[-2:], self.max_keys)
        key, value = pool(key, factor), pool(value, factor)
        attended = F.scaled_dot_product_attention(
            self._heads(query, self.query), self._heads(key, self.key), self._heads(value, self.value)
        )
        # Permuted, a single image keeps the strides of channels_last; else every later step would copy it.
        return self.out(attended.transpose(1, 2).flatten(2)).unflatten(1, query.shape[-2:]).permute(0, 3, 1, 2)

    @torch.no_grad()
    def entropy(self, query: Tensor, key: Tensor) -> Tensor:
        """Entropy of the attention weights of every query, in nats.

        Shape:
            query (B, C, H, W), key (B, C, h, w) -> (B, num_heads, H, W)
        """
        q = self._heads(query, self.query)
        k = self._heads(pool(key, pool_factor(key.shape[-2:], self.max_keys)), self.key)
        parts = [
            torch.distributions.Categorical(logits=part @ k.mT / math.sqrt(q.shape[-1])).entropy()
            for part in q.split(QUERIES_AT_ONCE, dim=2)
        ]
        return torch.cat(parts, dim=2).unflatten(2, query.shape[-2:])
