"""Fuses foundation features into a local pyramid."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS

from .context_adapter import ContextAdapter


def resolve_levels(levels: Sequence[int] | str, depth: int, name: str) -> list[int]:
    """Turn `all` or indices that may be negative into sorted indices from 0 to depth - 1."""
    if isinstance(levels, str):
        if levels != 'all':
            raise UserError(
                f"{name}='{levels}' is unknown; give 'all' or a list of levels from {-depth} to {depth - 1}"
            )
        return list(range(depth))
    outside = [level for level in levels if not -depth <= level < depth]
    if outside:
        raise UserError(f'{name}: level {outside[0]} does not exist in a pyramid of {depth} (levels 0 to {depth - 1})')
    return sorted({level % depth for level in levels})


@MODELS.register_module()
class GatedFusionNeck(BaseModule):
    """Local pyramid + context -> fused pyramid of the same shapes; other levels pass unchanged.

    Args:
        in_channels: channels of each local level, shallow first; the segmentor gives them.
        context_channels: channels of each foundation feature; the segmentor gives them.
        levels: which levels are fused: indices (negative from the bottleneck) or `all`.
        attention_levels: of those, the levels whose block attends, by default the deepest; the others are only gated,
            since attention is quadratic in the pixels of a level.
        block: registry config of the fusion block.

    Shape:
        local level i (B, in_channels[i], H_i, W_i), context j (B, context_channels[j], h_j, w_j)
        -> level i (B, in_channels[i], H_i, W_i)

    Source: method.md section 3; the fusion at several levels is that of the second released configuration.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        context_channels: Sequence[int],
        levels: Sequence[int] | str = (-1,),
        attention_levels: Sequence[int] | str | None = None,
        block: dict = dict(type='mmgfnuc.GatedFusionBlock'),  # noqa: B006 - never mutated
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        depth = len(in_channels)
        fused = resolve_levels(levels, depth, 'levels')
        attending = fused[-1:]
        if attention_levels is not None:
            attending = resolve_levels(attention_levels, depth, 'attention_levels')
        if not set(attending) <= set(fused):
            raise UserError(f'attention_levels={attending} must be among the fused levels={fused}')
        self.adapter = ContextAdapter()
        context = sum(context_channels)
        self.blocks = nn.ModuleDict(
            {
                str(level): MODELS.build(
                    block,
                    default_args=dict(
                        in_channels=in_channels[level], context_channels=context, attention=level in attending
                    ),
                )
                for level in fused
            }
        )

    def forward(self, local: Sequence[Tensor], context: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse the chosen levels."""
        fused = list(local)
        for name, block in self.blocks.items():
            level = int(name)
            fused[level] = block(local[level], self.adapter(context, tuple(local[level].shape[-2:])))
        return tuple(fused)
