"""Fuses foundation features within the encoder, between its levels."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS

from .context_adapter import Step
from .fusion_neck import FusionNeck, Strides

# Runs a backbone: what is returned of the number of a level and its map takes the place of that level.
Encode = Callable[[Callable[[int, Tensor], Tensor]], tuple[Tensor, ...]]


def projection(in_channels: int, out_channels: int, factor: int) -> nn.Conv2d | nn.ConvTranspose2d:
    """Project to other channels, and make the map larger by a whole factor.

    Shape:
        (B, in_channels, H, W) -> (B, out_channels, factor * H, factor * W)
    """
    if factor == 1:
        return nn.Conv2d(in_channels, out_channels, 1)
    # Kernels overlap by half; an odd one under an odd factor, for only so the map gets its exact size.
    kernel = 2 * factor - factor % 2
    return nn.ConvTranspose2d(in_channels, out_channels, kernel, factor, padding=factor // 2)


@MODELS.register_module()
class EncoderFusionNeck(FusionNeck):
    """Fuses every level as soon as the encoder has made it: the next level is made from the fused one.

    Takes the encoder instead of its pyramid, so the backbone must be a StagedBackbone. Above the bottleneck
    the context is projected to half of the channels of the level: by a transposed convolution where tokens are larger
    than the pixels of the level (kernel twice the stride), else by a 1x1 convolution. ContextAdapter resamples the rest
    of the difference between the two grids, as it does for the bottleneck. Several features are joined first, at the
    grid of the last one.

    With SAM's 256x64x64 embedding, images of 256x256 pixels and `GatedFusionBlock(preset='released', wiring='text')` it
    is the second configuration of the authors' release: projections 256 -> 16 (kernel 8, stride 4), 256 -> 32 (kernel
    4, stride 2), 256 -> 64, 256 -> 128 (then one max-blur-pool), none at the bottleneck (two max-blur-pools); 1,576,157
    parameters under the widths 32, 64, 128, 256, 512.

    Args:
        in_channels: channels of each local level, shallow first; the segmentor gives them.
        context_channels: channels of each foundation feature; the segmentor gives them.
        in_strides: image pixels per pixel of each local level; the segmentor gives them.
        context_stride: image pixels per token that the strides of the projections are laid out for. At others, as of
            larger images under SAM, the rest is bilinear.
        levels: which levels are fused: indices (negative from the bottleneck) or `all`.
        kwargs: see FusionNeck.

    Shape:
        `encode`, which runs the encoder (see StagedBackbone), context j (B, context_channels[j], h_j, w_j),
        `token_strides` j (image pixels per pixel of context j) -> level i (B, in_channels[i], H_i, W_i)

    Source: docs/method.md, section "The released configurations".
    """

    within_encoder = True

    def __init__(
        self,
        in_channels: Sequence[int],
        context_channels: Sequence[int],
        in_strides: Sequence[int],
        context_stride: int = 4,
        levels: Sequence[int] | str = 'all',
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, context_channels, in_strides, levels, **kwargs)
        if context_stride < 1:
            raise UserError(f'context_stride={context_stride}: give pixels per token, from 1; 4 for SAM at 256 pixels')
        given = self.given_channels(in_channels, sum(context_channels))
        self.projections = nn.ModuleDict(
            {
                name: projection(
                    sum(context_channels), given[int(name)], max(round(context_stride / in_strides[int(name)]), 1)
                )
                for name in self.blocks
                if int(name) < len(in_channels) - 1
            }
        )

    def given_channels(self, in_channels: Sequence[int], context_channels: int) -> list[int]:
        """Channels of the context that the block of each level is given."""
        return [*(max(channels // 2, 1) for channels in in_channels[:-1]), context_channels]

    def _inputs(
        self, level: int, local: Tensor, context: Sequence[Tensor], strides: Strides
    ) -> tuple[Tensor, Tensor, Step]:
        if str(level) not in self.projections:
            return super()._inputs(level, local, context, strides)
        tokens, (rows, columns) = self._tokens(context, self._steps(level, local, context, strides))
        project = cast(nn.Conv2d | nn.ConvTranspose2d, self.projections[str(level)])
        step = (rows / project.stride[0], columns / project.stride[1])
        return local, self.adapter([project(tokens)], tuple(local.shape[-2:]), [step]), (1, 1)

    def _fuse(self, context: Sequence[Tensor], strides: Strides, level: int, local: Tensor) -> Tensor:
        if str(level) not in self.blocks:
            return local
        return self._block(level)(*self._inputs(level, local, context, strides))

    def forward(  # type: ignore[override]
        self, encode: Encode, context: Sequence[Tensor], token_strides: Strides = None
    ) -> tuple[Tensor, ...]:
        """Run the encoder, and fuse the chosen levels on its way."""
        return encode(partial(self._fuse, self._controlled(context, self.training), token_strides))

    @torch.no_grad()
    def explain(  # type: ignore[override]
        self, encode: Encode, context: Sequence[Tensor], token_strides: Strides = None
    ) -> dict[int, dict[str, Tensor]]:
        """Return what the block of every fused level does, see FusionBlock.

        The encoder is run: call it in evaluation mode, as in training mode batch norm would take the images into its
        statistics. A control is applied as at prediction, in training mode too.
        """
        context, done = self._controlled(context, training=False), {}

        def explained(level: int, local: Tensor) -> Tensor:
            if str(level) in self.blocks:
                done[level] = self._block(level).explain(*self._inputs(level, local, context, token_strides))
            return self._fuse(context, token_strides, level, local)

        encode(explained)
        return done
