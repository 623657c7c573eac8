"""Swin transformer blocks for maps of any size, shared by the encoder and the decoder of Swin-UNet."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models.swin_transformer import SwinTransformerBlock, window_partition, window_reverse
from torch import Tensor, nn

# Added to the attention logits of a pair of tokens that must not see each other, as timm does.
BLOCKED_LOGIT = -100.0
# Kinds of tokens along one side of a padded, cyclically shifted map.
INSIDE, WRAPPED, PADDING = 0, 1, 2
KINDS = 3


class SwinBlock(SwinTransformerBlock):
    """timm's Swin block, made right for maps of any size; channels last.

    Tokens (r, c) and (r', c') attend to each other if and only if `(r - s) // w == (r' - s) // w` and likewise for
    the columns: windows of side w = `window_size` in a grid moved by s (0, or w // 2 where `shifted`). A side that fits
    into one window is not shifted. timm does the same where the sides are multiples of w. At other sizes it pads after
    the shift, so that opposite borders see each other, and attends to the padding; both are prevented here. The
    parameters are timm's, whatever the image size.

    Args:
        channels: channels of the map.
        num_heads: attention heads.
        window_size: side of a window (tokens).
        shifted: move the windows by half their side.
        drop_path: probability that a sample skips a residual branch in training.

    Shape:
        (B, H, W, channels) -> (B, H, W, channels)

    Source: Liu et al. 2021, "Swin Transformer", sections 3.1 and 3.2.
    """

    def __init__(self, channels: int, num_heads: int, window_size: int, shifted: bool, drop_path: float = 0.0) -> None:
        super().__init__(
            channels,
            # Unused with the two settings below, which keep timm from adapting the parameters to one image size.
            input_resolution=(window_size, window_size),
            num_heads=num_heads,
            window_size=window_size,
            shift_size=window_size // 2 if shifted else 0,
            always_partition=True,
            dynamic_mask=True,
            drop_path=drop_path,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend within the windows, then the MLP, each with a residual."""
        x = x + self.drop_path1(self.attend(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))

    def attend(self, x: Tensor) -> Tensor:
        """Pad to whole windows, shift, attend, and undo both."""
        height, width = x.shape[1:3]
        window = self.window_size[0]
        down, right = (
            0 if side <= window else shift for side, shift in zip((height, width), self.shift_size, strict=True)
        )
        padded = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        full_height, full_width = padded.shape[1:3]
        rows = token_kinds(height, full_height, down, x.device)
        columns = token_kinds(width, full_width, right, x.device)
        shifted = padded.roll((-down, -right), (1, 2)) if down or right else padded
        windows = window_partition(shifted, self.window_size).flatten(1, 2)
        all_inside = not (down or right) and (full_height, full_width) == (height, width)
        attended = self.attn(windows, mask=None if all_inside else self._mask(rows, columns, x.dtype))
        merged = window_reverse(attended.unflatten(1, self.window_size), self.window_size, full_height, full_width)
        unshifted = merged.roll((down, right), (1, 2)) if down or right else merged
        return unshifted[:, :height, :width]

    def _mask(self, rows: Tensor, columns: Tensor, dtype: torch.dtype) -> Tensor:
        """Logits that block pairs of unequal kinds, (windows, window area, window area)."""
        kinds = (KINDS * rows[:, None] + columns)[None, :, :, None]
        kinds = window_partition(kinds, self.window_size).flatten(1)
        return (kinds[:, None] != kinds[:, :, None]).to(dtype) * BLOCKED_LOGIT


def token_kinds(length: int, padded: int, shift: int, device: torch.device | None = None) -> Tensor:
    """Mark inside, wrapped and padding tokens along one side, after the cyclic shift.

    >>> token_kinds(length=4, padded=6, shift=1).tolist()
    [0, 0, 0, 2, 2, 1]
    """
    position = torch.arange(padded, device=device) + shift
    kinds = torch.full_like(position, INSIDE).masked_fill(position >= length, PADDING)
    return kinds.masked_fill(position >= padded, WRAPPED)


def swin_blocks(channels: int, num_heads: int, window_size: int, drop_path: Sequence[float]) -> nn.Sequential:
    """One block per entry of `drop_path`, every second one shifted.

    Shape:
        (B, H, W, channels) -> (B, H, W, channels)
    """
    return nn.Sequential(
        *(SwinBlock(channels, num_heads, window_size, index % 2 == 1, rate) for index, rate in enumerate(drop_path))
    )


def init_linear(module: nn.Module) -> None:
    """Initialise a linear layer as transformers do: truncated normal of deviation 0.02, no bias. For `Module.apply`."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
