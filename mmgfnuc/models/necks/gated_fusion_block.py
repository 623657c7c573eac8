"""The Gated Fusion Block of Swain, Cheoi and Ko."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS

from .attention import TokenAttention
from .base import FusionBlock
from .context_adapter import Step


class Preset(NamedTuple):
    """Which gate and which attention wiring; None leaves the part out."""

    gate: str | None
    wiring: str | None


PRESETS = {
    'paper': Preset(gate='glu', wiring='figure'),
    'released': Preset(gate='sigmoid', wiring='figure'),
    'gate-only': Preset(gate='glu', wiring=None),
    'attention-only': Preset(gate=None, wiring='figure'),
}
WIRINGS = ('figure', 'text')


class ChannelGate(nn.Module):
    """Squeeze the local and the context map, excite: one gate value for each local channel.

    `z = GAP([local, context])`, `h = ReLU(W_1 z)` with C + D reduced by `reduction`, then
    `g = GLU(W_2 h)` (`glu`, W_2 to 2C) or `g = sigmoid(W_2 h)` (`sigmoid`, W_2 to C).

    Shape:
        local (B, C, H, W), context (B, D, H, W) -> (B, C, 1, 1)

    Source: docs/method.md, section "The Gated Fusion Block", steps 1 and 2.
    """

    def __init__(self, in_channels: int, context_channels: int, gate: str, reduction: int) -> None:
        super().__init__()
        if reduction < 1:
            raise UserError(f'reduction={reduction} of the gate: give 1 or more; 16 in the paper')
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


@MODELS.register_module()
class GatedFusionBlock(FusionBlock):
    """Gate the local channels by what the foundation model sees, then attend over the gated map.

    1. `g` = ChannelGate(local, context), see there.
    2. `gated = g * local`.
    3. Attention over the H*W tokens. Wiring `figure`: queries from `gated`, keys and values from `local`;
       wiring `text`: all three from `gated`.
    4. The result replaces `local`. (The dropout after the bottleneck belongs to the host, with fusion and without:
       `bottleneck_dropout` of the segmentor.)

    Presets: `paper` (GLU gate, wiring `figure`) and `released` (sigmoid gate, wiring `figure`); the controls
    `gate-only` (`paper` without step 3) and `attention-only` (`paper` without steps 1 and 2: no context enters). The
    blocks of the second released configuration are `released` with wiring `text`, within an EncoderFusionNeck.
    `GatedFusionBlock(512, 256, preset='released')` has 1,112,624 parameters.

    Note that the context reaches the output only through channel gates made from spatial means.

    Args:
        in_channels: C, channels of the local map.
        context_channels: D, channels of the context map.
        preset: `paper`, `released`, `gate-only` or `attention-only`.
        wiring: `figure` or `text` instead of the preset's.
        attention: False stops after step 2, for shallow levels with too many tokens.
        reduction: of the gate's hidden layer.
        num_heads: attention heads.
        max_keys: above this many pixels the keys and values are pooled; None never.

    Shape:
        local (B, C, H, W), context (B, D, H, W) -> (B, C, H, W)

    Source: Swain, Cheoi, Ko 2024, doi:10.33851/JMIS.2024.11.4.219; docs/method.md, section "The Gated Fusion Block".
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
        max_keys: int | None = None,
    ) -> None:
        super().__init__()
        if preset not in PRESETS:
            raise UserError(f"preset='{preset}' is unknown; choose one of {', '.join(PRESETS)}")
        if wiring not in (None, *WIRINGS):
            raise UserError(f"wiring='{wiring}' is unknown; choose one of {', '.join(WIRINGS)}")
        gate, preset_wiring = PRESETS[preset]
        if wiring and preset_wiring is None:
            raise UserError(f"wiring='{wiring}' has no meaning for preset='{preset}', which does not attend; drop it")
        attention = attention and preset_wiring is not None
        if gate is None and not attention:
            raise UserError(f"preset='{preset}' without attention does nothing; fuse only levels that attend")
        self.wiring = wiring or preset_wiring
        self.gate = ChannelGate(in_channels, context_channels, gate, reduction) if gate else None
        self.attention = TokenAttention(in_channels, num_heads, max_keys) if attention else None

    def _gated(self, local: Tensor, context: Tensor) -> Tensor:
        return local if self.gate is None else self.gate(local, context) * local

    def forward(self, local: Tensor, context: Tensor, step: Step | None = None) -> Tensor:
        """Fuse one level."""
        gated = self._gated(local, context)
        if self.attention is None:
            return gated
        memory = gated if self.wiring == 'text' else local
        return self.attention(gated, memory, memory)

    @torch.no_grad()
    def explain(self, local: Tensor, context: Tensor, step: Step | None = None) -> dict[str, Tensor]:
        """Return the gate values and the attention entropy, see FusionBlock."""
        done = {}
        if self.gate is not None:
            done['gate'] = self.gate(local, context).flatten(1)
        if self.attention is not None:
            gated = self._gated(local, context)
            done['attention_entropy'] = self.attention.entropy(gated, gated if self.wiring == 'text' else local)
        return done
