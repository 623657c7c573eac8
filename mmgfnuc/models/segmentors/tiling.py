"""Segments an image of any size tile by tile, in time linear in its pixels."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmgfnuc.errors import UserError


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Offsets of tiles that cover `length` pixels; the last one is moved back to end at the border.

    >>> tile_starts(512, tile=256, overlap=64)
    [0, 192, 256]
    >>> tile_starts(200, tile=256, overlap=64)
    [0]
    """
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def edge_weights(start: int, length: int, total: int, overlap: int) -> Tensor:
    """Weights of a tile along one axis: 0 in the outer quarter of the overlap, a ramp in its inner half, then 1.

    A side that lies on the image border keeps its full weight. The outer quarter is left out because what the model
    says there rests on padding instead of tissue.

    Shape:
        result: (length,)
    """
    weights = torch.ones(length)
    margin, ramp = overlap // 4, overlap // 2
    slope = torch.cat([torch.zeros(margin), torch.arange(1, ramp + 1) / (ramp + 1)])
    if start > 0:
        weights[: margin + ramp] = slope
    if start + length < total:
        weights[length - margin - ramp :] = slope.flip(0)
    return weights


def tiled_forward(
    forward: Callable[[Tensor], Tensor], images: Tensor, tile: int, overlap: int, tiles_per_batch: int = 1
) -> Tensor:
    """Apply a model to overlapping square tiles and blend its outputs.

    Where the model's output at a pixel depends only on what lies within `overlap // 4` pixels, and not on the offset of
    the tile (as pooling does), the result is that on the whole image.

    Args:
        forward: (b, C, h, w) -> (b, K, h, w).
        images: any size; sides shorter than `tile` are taken whole.
        tile: side of a tile (pixels).
        overlap: of neighbouring tiles (pixels).
        tiles_per_batch: of each image, that go through the model at once.

    Shape:
        (B, C, H, W) -> (B, K, H, W)
    """
    if not 0 <= overlap <= tile // 2:
        raise UserError(f'overlap={overlap} must lie between 0 and half the tile, {tile // 2} pixels')
    height, width = images.shape[-2:]
    tile_height, tile_width = min(tile, height), min(tile, width)
    if (tile_height, tile_width) == (height, width):
        return forward(images)
    corners = [(y, x) for y in tile_starts(height, tile, overlap) for x in tile_starts(width, tile, overlap)]
    total: Tensor | None = None
    weight_sum = images.new_zeros(height, width)
    for first in range(0, len(corners), tiles_per_batch):
        group = corners[first : first + tiles_per_batch]
        crops = torch.cat([images[..., y : y + tile_height, x : x + tile_width] for y, x in group])
        for (y, x), output in zip(group, forward(crops).chunk(len(group)), strict=True):
            if total is None:
                total = output.new_zeros(len(images), output.shape[1], height, width)
            weights = torch.outer(
                edge_weights(y, tile_height, height, overlap), edge_weights(x, tile_width, width, overlap)
            ).to(output)
            window = (..., slice(y, y + tile_height), slice(x, x + tile_width))
            total[window] += output * weights
            weight_sum[window] += weights
    assert total is not None
    return total / weight_sum
