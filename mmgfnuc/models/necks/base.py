"""The contract of every fusion block."""

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmgfnuc.models.layers.building import look_up, takes

from .context_adapter import Step


class FusionBlock(nn.Module, metaclass=ABCMeta):
    """Fuses the context of a foundation encoder into one level of a local pyramid.

    `FusionNeck` builds one for each fused level, with `in_channels` and `context_channels`. A block that attends also
    takes `attention` (whether it does at this level) and `max_keys` (see TokenAttention).

    Shape:
        local (B, C, H, W), context (B, D, h, w) -> (B, C, H, W)
    """

    # Whether the block takes the encoder's tokens as they are; it then attends at every level by default. Otherwise the
    # context is brought to the grid of the level, and attention is over the pixels of the level.
    takes_tokens = False

    @abstractmethod
    def forward(self, local: Tensor, context: Tensor, step: Step | None = None) -> Tensor:
        """Fuse one level. A context pixel covers `step` pixels of the level; None: both maps cover one area."""

    def explain(self, local: Tensor, context: Tensor, step: Step | None = None) -> dict[str, Tensor]:
        """Return what the block does to these features, for analysis.

        Keys, where the block has such parts: `gate` (B, C), the gate values; `attention_entropy`
        (B, num_heads, H, W) in nats, from 0 (one key) to the logarithm of the number of keys (all alike).
        """
        return {}


def taken_by(block: Mapping[str, Any], **wired: Any) -> dict[str, Any]:
    """Leave out of the settings that a neck gives a block those that its class does not take, such as `attention`."""
    kind = look_up(block['type'])
    return {name: value for name, value in wired.items() if takes(kind, name)}
