"""The fusion of this project: cross-attention to the tokens of the foundation encoder."""

import math

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS

from .attention import TokenAttention, pool, pool_factor
from .base import FusionBlock
from .context_adapter import Step
from .gated_fusion_block import ChannelGate

NORM_EPS = 1e-5
MAX_HEADS = 4


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


def with_position(x: Tensor, step: Step = (1, 1)) -> Tensor:
    """Add to each pixel of a map the encoding of where its centre lies on the grid of the level.

    Args:
        x: of the level itself, or of tokens.
        step: pixels of the level per pixel of the map (rows, columns).

    Shape:
        (B, C, h, w) -> (B, C, h, w)
    """
    rows, columns = (
        (torch.arange(n, device=x.device) + 0.5) * size for n, size in zip(x.shape[-2:], step, strict=True)
    )
    return x + position_encoding(rows, columns, x.shape[1]).to(x.dtype)


@MODELS.register_module()
class ContextFusionBlock(FusionBlock):
    """Every local pixel attends to the foundation encoder's tokens.

    1. `gated = ChannelGate(local, context) * local`, as in the paper's block.
    2. Queries: `LayerNorm(gated)`; keys and values: `tokens = LayerNorm(W context)`, W to the channels of the level.
       Queries and keys, not values, get a 2-D position encoding in pixels of the level, so that tokens and pixels of
       one place meet whatever their grids are.
    3. `local + attention`. The attention's last linear map starts at zero: at the start of training the block
       is the identity on the local map, so a foundation encoder cannot hurt it.

    Unlike in the paper's block, the foundation encoder's features of a place reach the decoder.

    Args:
        in_channels: C, channels of the local map.
        context_channels: D, channels of the context.
        num_heads: attention heads, a divisor of C; None takes the largest up to 4.
        reduction: of the gate's hidden layer.
        max_keys: above this many tokens, they are average-pooled; None never.
        attention: must be True; the neck sets it for every level.

    Shape:
        local (B, C, H, W), context (B, D, h, w) -> (B, C, H, W)

    Source: docs/method.md, section "Fusions and controls".
    """

    takes_tokens = True

    def __init__(
        self,
        in_channels: int,
        context_channels: int,
        num_heads: int | None = None,
        reduction: int = 16,
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
        self.attention = TokenAttention(in_channels, num_heads or _default_heads(in_channels), max_keys)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def _attended(self, local: Tensor, context: Tensor, step: Step | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values."""
        rows, columns = step or [full / own for full, own in zip(local.shape[-2:], context.shape[-2:], strict=True)]
        # Pooled before the position is added: the mean of several codes is the code of no place.
        factor = pool_factor(context.shape[-2:], self.attention.max_keys)
        tokens = self.norm_tokens(self.project(pool(context, factor)))
        query = with_position(self.norm_local(self.gate(local, context) * local))
        return query, with_position(tokens, (factor * rows, factor * columns)), tokens

    def forward(self, local: Tensor, context: Tensor, step: Step | None = None) -> Tensor:
        """Fuse one level. A token covers `step` pixels of the level; None: both maps cover one area."""
        return local + self.attention(*self._attended(local, context, step))

    @torch.no_grad()
    def explain(self, local: Tensor, context: Tensor, step: Step | None = None) -> dict[str, Tensor]:
        """Return the gate values and the attention entropy, see FusionBlock."""
        query, key, _ = self._attended(local, context, step)
        return {
            'gate': self.gate(local, context).flatten(1),
            'attention_entropy': self.attention.entropy(query, key),
        }


def _default_heads(channels: int) -> int:
    return max(heads for heads in range(1, MAX_HEADS + 1) if channels % heads == 0)
