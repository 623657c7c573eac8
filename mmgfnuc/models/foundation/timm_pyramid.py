"""Models of timm with stages, such as SAM 2's Hiera and ConvNeXt, as foundation encoders."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import pad_to_multiple
from mmgfnuc.models.layers.timm_models import create_for_any_size

from .base import FoundationEncoder
from .catalogue import Entry
from .formats import load_published


class TimmPyramidEncoder(FoundationEncoder):
    """The stages of a timm model, whose strides double.

    Images are padded on the right and below to a multiple of the deepest stride. A norm that the network has before its
    pooling (`head_norm_first`) is applied to the last stage.

    Args:
        out_layers: indices of the stages used, negative from the last.
        arch: timm's keyword arguments instead of the entry's.

    Shape:
        (B, 3, H, W) -> stage j: (B, D_j, ceil(H / stride_j), ceil(W / stride_j))

    Source: Wightman, "PyTorch Image Models" (timm), `forward_intermediates`.
    """

    def build(self, entry: Entry, arch: dict[str, Any], out_layers: Sequence[int | str] | None) -> None:
        """Build timm's model."""
        network = create_for_any_size(entry.arch, **{**entry.settings, **arch})
        stages = network.feature_info
        layers = entry.layers if out_layers is None else out_layers
        outside = [layer for layer in layers if not (isinstance(layer, int) and -len(stages) <= layer < len(stages))]
        if outside or not layers:
            raise UserError(f"out_layers={list(layers)}: '{entry.name}' has stages 0 to {len(stages) - 1}")
        self.network = network
        self.out_layers = sorted({int(layer) % len(stages) for layer in layers})
        self.out_channels = tuple(stages[layer]['num_chs'] for layer in self.out_layers)
        self.out_strides = tuple(stages[layer]['reduction'] for layer in self.out_layers)
        self.multiple = max(stage['reduction'] for stage in stages)
        self.normed = entry.settings.get('head_norm_first', False) and self.out_layers[-1] == len(stages) - 1

    def load_file(self, path: Path) -> None:
        """Load a file in any of the formats of its publishers, see `to_timm`."""
        load_published(self.network, path, self.entry.config_key)

    def prune(self) -> None:
        """Drop the stages after the last one used, and the head."""
        self.network.prune_intermediate_layers(self.out_layers, prune_norm=not self.normed, prune_head=True)

    def use_grad_checkpointing(self) -> None:
        """Let timm keep only the inputs of the blocks."""
        self.network.set_grad_checkpointing(True)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the stem, i + 1 for block i of Hiera or stage i of others."""
        found = re.match(r'(blocks|stages|layers)[._](\d+)', parameter)
        return int(found[2]) + 1 if found else 0

    @property
    def num_layers(self) -> int:
        """Stem, and blocks or stages."""
        return max(self.layer_of(name) for name, _ in self.network.named_parameters()) + 1

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the stages up to the last chosen one."""
        padded = pad_to_multiple(images, self.multiple)
        settings = {'norm': True} if self.normed else {}
        return tuple(
            self.network.forward_intermediates(padded, indices=self.out_layers, intermediates_only=True, **settings)
        )
