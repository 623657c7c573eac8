"""Fuses foundation features into a local pyramid."""

from collections.abc import Sequence
from typing import cast

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers.building import build_part, look_up, takes
from mmgfnuc.registry import MODELS

from .base import FusionBlock, taken_by
from .context_adapter import ContextAdapter, Step

Strides = Sequence[float] | None


def resolve_levels(levels: Sequence[int] | str, depth: int, name: str) -> list[int]:
    """Turn `all` or indices that may be negative into sorted indices from 0 to depth - 1."""
    if levels == 'all':
        return list(range(depth))
    if isinstance(levels, str | int):
        raise UserError(f"{name}={levels!r}: give 'all' or a list of levels from {-depth} to {depth - 1}")
    outside = [level for level in levels if not -depth <= level < depth]
    if outside:
        raise UserError(f'{name}: level {outside[0]} does not exist in a pyramid of {depth} (levels 0 to {depth - 1})')
    return sorted({level % depth for level in levels})


def no_context(context: Sequence[Tensor], training: bool) -> list[Tensor]:
    """Zeros in place of the features."""
    return [torch.zeros_like(feature) for feature in context]


def shuffled_tokens(context: Sequence[Tensor], training: bool) -> list[Tensor]:
    """The tokens of every image at permuted positions: drawn anew in training, always the same ones at prediction.

    Features of one grid get one order: what several layers say of a place stays together.
    """
    seed = int(torch.randint(2**31, (), device='cpu')) if training else 0
    return [_permuted(feature, seed) for feature in context]


def _permuted(feature: Tensor, seed: int) -> Tensor:
    tokens = feature.flatten(2)
    order = torch.randperm(tokens.shape[2], generator=torch.Generator().manual_seed(seed), device='cpu')
    return tokens[:, :, order.to(feature.device)].unflatten(2, feature.shape[-2:])


CONTROLS = {'zero': no_context, 'shuffled': shuffled_tokens}


@MODELS.register_module()
class FusionNeck(BaseModule):
    """Local pyramid + context -> fused pyramid of the same shapes; other levels pass unchanged.

    Args:
        in_channels: channels of each local level, shallow first; the segmentor gives them.
        context_channels: channels of each foundation feature; the segmentor gives them.
        in_strides: image pixels per pixel of each local level; the segmentor gives them. None: all maps cover one area.
        levels: which levels are fused: indices (negative from the bottleneck) or `all`.
        attention_levels: of those, the levels whose block attends. By default the deepest, since attention among the
            pixels of a level is quadratic in them; all, where the block attends to the encoder's tokens.
        max_keys: above this many tokens, the keys of attention are pooled, except at the bottleneck.
        block: registry config of the fusion block.
        control: `zero` replaces the context by zeros, `shuffled` permutes its tokens: a gain that remains
            under these does not come from the foundation encoder. (The third control, the context of another image,
            is a setting of the data: see the dataset's `partner_images`.)
        blur_padding: border of the pools that bring the context to a level, `replicate` or `zeros` (the authors'
            release), see BlurPool.

    Shape:
        local level i (B, in_channels[i], H_i, W_i), context j (B, context_channels[j], h_j, w_j), `token_strides` j
        (image pixels per pixel of context j) -> level i (B, in_channels[i], H_i, W_i)

    Source: docs/method.md, section "The Gated Fusion Block". (In the authors' second released configuration the gates
    sit within the encoder: EncoderFusionNeck.)
    """

    # Whether it works between the levels of the backbone: `forward` then takes the encoder instead of its pyramid.
    within_encoder = False

    def __init__(
        self,
        in_channels: Sequence[int],
        context_channels: Sequence[int],
        in_strides: Sequence[int] | None = None,
        levels: Sequence[int] | str = (-1,),
        attention_levels: Sequence[int] | str | None = None,
        max_keys: int = 4096,
        block: dict = dict(type='mmgfnuc.GatedFusionBlock'),  # noqa: B006 - never mutated
        control: str | None = None,
        blur_padding: str = 'replicate',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if control not in (None, *CONTROLS):
            raise UserError(f"control='{control}' is unknown; choose one of {', '.join(CONTROLS)}, or None")
        depth = len(in_channels)
        fused = resolve_levels(levels, depth, 'levels')
        if not fused:
            raise UserError('levels=() fuses nothing; give at least one level, or neither neck nor foundation encoder')
        kind = look_up(block['type'])
        if isinstance(kind, type) and not issubclass(kind, FusionBlock):
            raise UserError(f'block: {kind.__name__} is not a FusionBlock; derive it from that')
        if attention_levels is not None:
            attending = resolve_levels(attention_levels, depth, 'attention_levels')
        else:
            attending = fused if getattr(kind, 'takes_tokens', False) else fused[-1:]
        if not set(attending) <= set(fused):
            raise UserError(f'attention_levels={attending} must be among the fused levels={fused}')
        if attention_levels is not None and kind is not None and not takes(kind, 'attention'):
            raise UserError(f'attention_levels={attention_levels!r}: {kind.__name__} has no attention; leave it out')
        self.in_strides = in_strides
        self.adapter = ContextAdapter(blur_padding)
        self.control = control
        given = self.given_channels(in_channels, sum(context_channels))
        self.blocks = nn.ModuleDict(
            {
                str(level): build_part(
                    block,
                    **taken_by(
                        block,
                        in_channels=in_channels[level],
                        context_channels=given[level],
                        attention=level in attending,
                        max_keys=None if level == depth - 1 else max_keys,
                    ),
                )
                for level in fused
            }
        )

    def given_channels(self, in_channels: Sequence[int], context_channels: int) -> list[int]:
        """Channels of the context that the block of each level is given."""
        return [context_channels] * len(in_channels)

    def _controlled(self, context: Sequence[Tensor], training: bool) -> Sequence[Tensor]:
        return context if self.control is None else CONTROLS[self.control](context, training)

    def _steps(self, level: int, local: Tensor, context: Sequence[Tensor], strides: Strides) -> list[Step]:
        """Pixels of a level per pixel of each feature."""
        if self.in_strides is None or strides is None:
            height, width = local.shape[-2:]
            return [(height / feature.shape[-2], width / feature.shape[-1]) for feature in context]
        return [(stride / self.in_strides[level],) * 2 for stride in strides]

    def _tokens(self, context: Sequence[Tensor], steps: Sequence[Step]) -> tuple[Tensor, Step]:
        """Join the features at the grid of the last one; return how many pixels of the level a token covers."""
        rows, columns = steps[-1]
        grid = tuple(context[-1].shape[-2:])
        return self.adapter(context, grid, [(step[0] / rows, step[1] / columns) for step in steps]), steps[-1]

    def _inputs(
        self, level: int, local: Tensor, context: Sequence[Tensor], strides: Strides
    ) -> tuple[Tensor, Tensor, Step]:
        """Give the inputs of the block of a level."""
        steps = self._steps(level, local, context, strides)
        if self._block(level).takes_tokens:
            return local, *self._tokens(context, steps)
        return local, self.adapter(context, tuple(local.shape[-2:]), steps), (1, 1)

    def _block(self, level: int) -> FusionBlock:
        return cast(FusionBlock, self.blocks[str(level)])

    def forward(
        self, local: Sequence[Tensor], context: Sequence[Tensor], token_strides: Strides = None
    ) -> tuple[Tensor, ...]:
        """Fuse the chosen levels."""
        fused, context = list(local), self._controlled(context, self.training)
        for level in map(int, self.blocks):
            fused[level] = self._block(level)(*self._inputs(level, local[level], context, token_strides))
        return tuple(fused)

    @torch.no_grad()
    def explain(
        self, local: Sequence[Tensor], context: Sequence[Tensor], token_strides: Strides = None
    ) -> dict[int, dict[str, Tensor]]:
        """Return what the block of every fused level does to these features, see FusionBlock.

        A control is applied as at prediction, in training mode too.
        """
        context = self._controlled(context, training=False)
        return {
            level: self._block(level).explain(*self._inputs(level, local[level], context, token_strides))
            for level in map(int, self.blocks)
        }
