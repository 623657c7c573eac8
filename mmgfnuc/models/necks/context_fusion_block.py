"""The fusion of this project: cross-attention to the tokens of the foundation encoder."""

import math

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS

from .attention import TokenAttention, pool_to
from .base import FusionBlock
from .gated_fusion_block import ChannelGate

NORM_EPS = 1e-5


def position_encoding(rows: Tensor, columns: Tensor, channels: int) -> Tensor:
    """Sines and cosines of the row and of the column, at wavelengths from 2 pi to 20,000 pi.

    Shape:
        rows (H,), columns (W,), in pixels of the level -> (channels, H, W)

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.5, applied to each axis.
    """
    count = math.ceil(channels / 4)
    frequencies = 10_000.0 ** -(torch.arange(count, device=rows.device) / count)
    vertical, horizontal = (position[:, None] * frequencies for position in (rows, columns))
    shape = (count, len(rows), len(columns))
    waves = [
        *(wave(vertical).T[:, :, None].expand(shape) for wave in (torch.sin, torch.cos)),
        *(wave(horizontal).T[:, None, :].expand(shape) for wave in (torch.sin, torch.cos)),
    ]
    return torch.cat(waves)[:channels]


def with_position(x: Tensor, level: torch.Size) -> Tensor:
    """Add to each pixel of a map the encoding of where its centre lies on the grid of the level.

    Shape:
        x (B, C, h, w), level (H, W) -> (B, C, h, w)
    """
    rows, columns = (
        (torch.arange(own, device=x.device) + 0.5) * (full / own) for own, full in zip(x.shape[-2:], level, strict=True)
    )
    return x + position_encoding(rows, columns, x.shape[1]).to(x.dtype)


@MODELS.register_module()
class ContextFusionBlock(FusionBlock):
    """Every local pixel asks the foundation encoder's tokens what it needs to know of the context.

    1. `gated = ChannelGate(local, context) * local`, as in the paper's block.
    2. Queries: `LayerNorm(gated)`; keys and values: `tokens = LayerNorm(W context)`, W to the channels of the level.
       Queries and keys, not values, get a 2-D position encoding in pixels of the level, so that tokens and pixels of
       one place meet whatever their grids are.
    3. `local + dropout(attention)`. The attention's last linear map starts at zero: at the start of training the block
       is the identity on the local map, so a foundation encoder cannot hurt it.

    Here, unlike in the paper's block, what the foundation encoder says of a place reaches the decoder.

    Args:
        in_channels: C, channels of the local map.
        context_channels: D, channels of the context.
        num_heads: attention heads; must divide C.
        reduction: of the gate's hidden layer.
        dropout: probability after the attention.
        max_keys: above this many tokens, they are average-pooled; None never.
        attention: must be True; the neck says it of every level.

    Shape:
        local (B, C, H, W), context (B, D, h, w) -> (B, C, H, W)

    Source: code: own; method.md section 3.
    """

    aligned = False
    linear_attention = True

    def __init__(
        self,
        in_channels: int,
        context_channels: int,
        num_heads: int = 4,
        reduction: int = 16,
        dropout: float = 0.0,
        max_keys: int | None = None,
        attention: bool = True,
    ) -> None:
        super().__init__()
        if not attention:
            raise UserError('ContextFusionBlock is nothing without attention; leave attention_levels out')
        self.gate = ChannelGate(in_channels, context_channels, 'glu', reduction)
        self.project = nn.Conv2d(context_channels, in_channels, 1)
        self.norm_local = LayerNorm2d(in_channels, eps=NORM_EPS)
        self.norm_tokens = LayerNorm2d(in_channels, eps=NORM_EPS)
        self.attention = TokenAttention(in_channels, num_heads, max_keys)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def _tokens(self, context: Tensor) -> Tensor:
        # Pooled before the position is added: the mean of several codes is the code of no place.
        return self.norm_tokens(self.project(pool_to(context, self.attention.max_keys)))

    def _query_and_key(self, local: Tensor, context: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        gated = self.gate(local, context) * local
        level = local.shape[-2:]
        return with_position(self.norm_local(gated), level), with_position(tokens, level)

    def forward(self, local: Tensor, context: Tensor) -> Tensor:
        """Fuse one level."""
        tokens = self._tokens(context)
        query, key = self._query_and_key(local, context, tokens)
        return local + self.dropout(self.attention(query, key, tokens))

    @torch.no_grad()
    def explain(self, local: Tensor, context: Tensor) -> dict[str, Tensor]:
        """Return the gate values and the attention entropy, see FusionBlock."""
        query, key = self._query_and_key(local, context, self._tokens(context))
        return {
            'gate': self.gate(local, context).flatten(1),
            'attention_entropy': self.attention.entropy(query, key),
        }
