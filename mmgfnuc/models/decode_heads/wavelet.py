"""The Haar wavelet transform of feature maps."""

import torch
from torch import Tensor

from mmgfnuc.models.layers import pad_to_multiple


def haar_transform(x: Tensor) -> Tensor:
    """One level of the orthonormal 2-D Haar transform, on each channel.

    A block of pixels a b / c d gives (a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2 and
    (a - b - c + d) / 2: the mean, the change downwards, the change to the right and the diagonal one. At an odd size
    the last row or column is repeated first.

    Shape:
        (B, C, H, W) -> (B, 4C, ceil(H / 2), ceil(W / 2)): the C channels of the first sum, of the second, ...

    Source: Mallat 1989, "A theory for multiresolution signal decomposition", section IV.
    """
    x = pad_to_multiple(x, 2)
    top, bottom = x[..., ::2, :], x[..., 1::2, :]
    halves = torch.cat([top + bottom, top - bottom], dim=1) / 2
    left, right = halves[..., ::2], halves[..., 1::2]
    return torch.cat([left + right, left - right], dim=1)
