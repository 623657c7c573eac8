"""The Gated Fusion Block of Swain, Cheoi and Ko."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS


class Preset(NamedTuple):
    """Which gate and which attention wiring."""

    gate: str
    wiring: str


PRESETS = {
    'paper': Preset(gate='glu', wiring='figure'),
    'released': Preset(gate='sigmoid', wiring='figure'),
}
WIRINGS = ('figure', 'text')


class ChannelGate(nn.Module):
    """Squeeze the local and the context map, excite: one gate value for each local channel.

    `z = GAP([local, context])`, `h = ReLU(W_1 z)` with C + D reduced by `reduction`, then
    `g = GLU(W_2 h)` (`glu`, W_2 to 2C) or `g = sigmoid(W_2 h)` (`sigmoid`, W_2 to C).

    Shape:
        local (B, C, H, W), context (B, D, H, W) -> (B, C, 1, 1)

    Source: method.md section 3, steps 1 and 2.
    """

    def __init__(self, in_channels: int, context_channels: int, gate: str, reduction: int) -> None:
        super().__init__()
        joined = in_channels + context_channels
        hidden = max(joined // reduction, 1)
        self.gate = gate
        self.squeeze = nn.Linear(joined, hidden)
        self.excite = nn.Linear(hidden, 2 * in_channels if gate == 'glu' else in_channels)

    def forward(self, local: Tensor, context: Tensor) -> Tensor:
        """Compute the gate."""
        # The two means are joined, not the two maps: the same number without copying the maps.
        z = torch.cat([local.mean((2, 3)), context.mean((2, 3))], dim=1)
        excited = self.excite(F.relu(self.squeeze(z)))
        gate = F.glu(excited, dim=1) if self.gate == 'glu' else excited.sigmoid()
        return gate[:, :, None, None]


class TokenAttention(nn.Module):
    """Plain attention over the pixels of a map: no position encoding, residual, norm or feed-forward part.

    `softmax(Q K^T / sqrt(C / num_heads)) V`, each of Q, K, V and the output with its own linear map.

    Shape:
        query, memory (B, C, H, W) -> (B, C, H, W)

    Source: method.md section 3, step 4.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        if channels % num_heads:
            raise UserError(f'num_heads={num_heads} does not divide the {channels} channels; take a divisor')
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def _heads(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, heads, N, C / heads)."""
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Attend from the pixels of `query` to those of `memory`."""
        size = query.shape[-2:]
        q, m = query.flatten(2).transpose(1, 2), memory.flatten(2).transpose(1, 2)
        attended = F.scaled_dot_product_attention(
            self._heads(self.query(q)), self._heads(self.key(m)), self._heads(self.value(m))
        )
        return self.out(attended.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(2, size)


@MODELS.register_module()
class GatedFusionBlock(nn.Module):
    """Gate the local channels by what the foundation model sees, then attend over the gated map.

    1. `g` = ChannelGate(local, context), see there.
    2. `gated = g * local`.
    3. Attention over the H*W tokens. Wiring `figure`: queries from `gated`, keys and values from `local`;
       wiring `text`: all three from `gated`.
    4. The result replaces `local`, after dropout.

    Presets: `paper` (GLU gate, wiring `figure`) and `released` (sigmoid gate, wiring `figure`). The second released
    configuration is `released` with wiring `text`.
    `GatedFusionBlock(512, 256, preset='released')` has 1,112,624 parameters.

    Note that the context reaches the output only through channel gates made from spatial means.

    Args:
        in_channels: C, channels of the local map.
        context_channels: D, channels of the context map.
        preset: `paper` or `released`.
        wiring: `figure` or `text` instead of the preset's.
        attention: False stops after step 2, for shallow levels with too many tokens.
        reduction: of the gate's hidden layer.
        num_heads: attention heads.
        dropout: probability after the attention.

    Shape:
        local (B, C, H, W), context (B, D, H, W) -> (B, C, H, W)

    Source: Swain, Cheoi, Ko 2024, doi:10.33851/JMIS.2024.11.4.219; method.md section 3.
    """

    def __init__(
        self,
        in_channels: int,
        context_channels: int,
        preset: str = 'paper',
        wiring: str | None = None,
        attention: bool = True,
        reduction: int = 16,
        num_heads: int = 1,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if preset not in PRESETS:
            raise UserError(f"preset='{preset}' is unknown; choose one of {', '.join(PRESETS)}")
        if wiring not in (None, *WIRINGS):
            raise UserError(f"wiring='{wiring}' is unknown; choose one of {', '.join(WIRINGS)}")
        gate, preset_wiring = PRESETS[preset]
        self.wiring = wiring or preset_wiring
        self.gate = ChannelGate(in_channels, context_channels, gate, reduction)
        self.attention = TokenAttention(in_channels, num_heads) if attention else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, local: Tensor, context: Tensor) -> Tensor:
        """Fuse one level."""
        fused = self.gate(local, context) * local
        if self.attention is None:
            return fused
        return self.dropout(self.attention(fused, fused if self.wiring == 'text' else local))
