"""The contract of every fusion block."""

from abc import ABCMeta, abstractmethod

from torch import Tensor, nn


class FusionBlock(nn.Module, metaclass=ABCMeta):
    """Fuses the context of a foundation encoder into one level of a local pyramid.

    `GatedFusionNeck` builds one for each fused level, with `in_channels`, `context_channels`, `attention` (does this
    level attend?) and `max_keys` (see TokenAttention).

    Shape:
        local (B, C, H, W), context (B, D, h, w) -> (B, C, H, W)
    """

    # Is the context brought to the grid of the level before it is given? Otherwise it comes at the encoder's own.
    aligned = True
    # Linear attention can be had at every level; that over the pixels of a level only at the deepest.
    linear_attention = False

    @abstractmethod
    def forward(self, local: Tensor, context: Tensor) -> Tensor:
        """Fuse one level."""

    def explain(self, local: Tensor, context: Tensor) -> dict[str, Tensor]:
        """Return what the block does to these features, for analysis.

        Keys, where the block has such parts: `gate` (B, C), the gate values; `attention_entropy`
        (B, num_heads, H, W) in nats, from 0 (one key) to the logarithm of the number of keys (all alike).
        """
        return {}
