"""Anti-aliased down-sampling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BlurPool(nn.Module):
    """Fixed depthwise 3x3 binomial blur, [1 2 1] outer [1 2 1] / 16, at stride 1.

    The border is replicated, so that a constant map stays constant.

    Shape:
        (B, C, H, W) -> (B, C, H, W)

    Source: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", section 3.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer('kernel', (row[:, None] * row / 16)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Blur every channel alike."""
        channels = x.shape[1]
        padded = F.pad(x, (1, 1, 1, 1), mode='replicate')
        return F.conv2d(padded, self.kernel.to(x.dtype).expand(channels, 1, 3, 3), groups=channels)


class MaxBlurPool(nn.Sequential):
    """Max-pool 2x2 at stride 2, then the binomial blur.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))

    Source: method.md section 2 (eU-Net3+ and the adapter of the released fusion block).
    """

    def __init__(self) -> None:
        super().__init__(nn.MaxPool2d(2, ceil_mode=True), BlurPool())
