"""Anti-aliased down-sampling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgfnuc.errors import UserError

# What stands in for the pixels beyond the border, under the name that `torch.nn.functional.pad` has for it.
BORDERS = {'replicate': 'replicate', 'zeros': 'constant'}


class BlurPool(nn.Module):
    """Fixed depthwise 3x3 binomial blur, [1 2 1] outer [1 2 1] / 16, at stride 1.

    With `padding_mode='replicate'` the nearest pixel stands in beyond the border, so that a constant map stays
    constant; with `zeros` its border is lower by a quarter, a corner by 7/16. The authors' release pads with zeros.

    Shape:
        (B, C, H, W) -> (B, C, H, W)

    Source: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", section 3.
    """

    kernel: Tensor

    def __init__(self, padding_mode: str = 'replicate') -> None:
        super().__init__()
        if padding_mode not in BORDERS:
            raise UserError(f"padding of the blur: '{padding_mode}' is unknown; choose one of {', '.join(BORDERS)}")
        self.padding_mode = padding_mode
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer('kernel', (row[:, None] * row / 16)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Blur every channel alike."""
        channels = x.shape[1]
        padded = F.pad(x, (1, 1, 1, 1), mode=BORDERS[self.padding_mode])
        return F.conv2d(padded, self.kernel.to(x.dtype).expand(channels, 1, 3, 3), groups=channels)


class MaxBlurPool(nn.Sequential):
    """Max-pool 2x2 at stride 2, then the binomial blur; for `padding_mode` see BlurPool.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))

    Source: docs/method.md, sections "eU-Net3+" and "The released configurations" (padding with zeros).
    """

    def __init__(self, padding_mode: str = 'replicate') -> None:
        super().__init__(nn.MaxPool2d(2, ceil_mode=True), BlurPool(padding_mode))
