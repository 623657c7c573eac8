"""What a branch does to the image before its first layer: normalise, pad, resize."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.errors import UserError


class Normalize(nn.Module):
    """(images - mean) / std, per channel, on images in [0, 1].

    Shape:
        (B, C, H, W) -> (B, C, H, W); `mean` and `std` are one number for all channels or one per channel.

    Raises:
        UserError: they are not those of images in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        for name, given in (('mean', mean), ('std', std)):
            values = given if isinstance(given, Sequence) else [given]
            if not all(0 <= value <= 1 for value in values) or (name == 'std' and min(values) == 0):
                raise UserError(
                    f'{name}={given}: images are in [0, 1], and so are their mean and std; divide those of images '
                    'from 0 to 255 by 255'
                )
        # Not persistent: the numbers belong to the config or the catalogue, not to the trained weights.
        self.register_buffer('mean', torch.as_tensor(mean).float().reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer('std', torch.as_tensor(std).float().reshape(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise."""
        return (images - self.mean) / self.std


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Replicate the lower and right border until both sides are multiples of `multiple` (pixels).

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / multiple) * multiple, ceil(W / multiple) * multiple)
    """
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return images
    return F.pad(images, (0, right, 0, bottom), mode='replicate')


def reflect_to_size(images: Tensor, least: int) -> tuple[Tensor, tuple[int, int]]:
    """Continue images on all sides by their mirror image, as often as it takes, until no side is below `least` pixels.

    The outermost pixels are not repeated. Returned with the row and column at which the image itself then begins.

    Shape:
        (B, C, H, W) -> (B, C, max(H, least), max(W, least))
    """
    corner = []
    for axis in (-2, -1):
        side = images.shape[axis]
        before = max(least - side, 0) // 2
        corner.append(before)
        if side < least:
            period = max(2 * (side - 1), 1)
            steps = (torch.arange(least, device=images.device) - before) % period
            images = images.index_select(axis, torch.minimum(steps, period - steps))
    return images, (corner[0], corner[1])


def longest_side_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width after the longer side is scaled to `longest` pixels, rounded half up."""
    scale = longest / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def resize_longest_side(images: Tensor, longest: int) -> Tensor:
    """Resize bilinearly with antialiasing so that the longer side has `longest` pixels, keeping the aspect.

    Source: segment-anything, `ResizeLongestSide.apply_image_torch`.

    Shape:
        (B, C, H, W) -> (B, C, H', W'), max(H', W') = longest
    """
    height, width = images.shape[-2:]
    size = longest_side_size(height, width, longest)
    if size == (height, width):
        return images
    return F.interpolate(images, size, mode='bilinear', align_corners=False, antialias=True)
