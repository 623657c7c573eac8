"""The contract of every backbone."""

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.models.layers import Normalize, pad_to_multiple


class Backbone(BaseModule, metaclass=ABCMeta):
    """Image -> local pyramid, shallow first. Subclasses build their network and implement `encode`.

    Args:
        in_channels: channels of the image.
        out_channels: channels of each level, shallow first.
        out_strides: image pixels per pixel of each level.
        mean: subtracted from the image in [0, 1], one number or one per channel.
        std: divides the image after `mean` is subtracted.
        multiple: `encode` gets images whose sides are multiples of this (pixels), padded to the right and below.

    Shape:
        (B, in_channels, H, W) -> level i: (B, out_channels[i], ceil(H / out_strides[i]), ceil(W / out_strides[i]))

    Raises:
        UserError: there are fewer than two levels, or one without channels; an image has another number of channels,
            or is smaller than the deepest stride.
    """

    # In which layout of memory the levels come.
    memory_format = torch.contiguous_format

    def __init__(
        self,
        in_channels: int,
        out_channels: Sequence[int],
        out_strides: Sequence[int],
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        multiple: int = 1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        levels = len(out_channels)
        if levels < 2:
            raise UserError(f'widths={tuple(out_channels)} has {levels} level(s); a pyramid needs at least 2')
        wrong = [width for width in (in_channels, *out_channels) if not isinstance(width, int) or width < 1]
        if wrong:
            raise UserError(
                f'in_channels={in_channels}, widths={tuple(out_channels)}: give whole numbers from 1, not {wrong[0]!r}'
            )
        self.in_channels = in_channels
        self.out_channels = tuple(out_channels)
        self.out_strides = tuple(out_strides)
        self.multiple = multiple
        for name, values in (('mean', mean), ('std', std)):
            if isinstance(values, Sequence) and len(values) not in (1, in_channels):
                raise UserError(
                    f'{name}={tuple(values)}: give one number, or one for each of the {in_channels} channels'
                )
        self.normalize = Normalize(mean, std)

    @property
    def name(self) -> str:
        """What a message calls it."""
        return type(self).__name__

    @abstractmethod
    def encode(self, images: Tensor) -> Sequence[Tensor]:
        """Encode normalised, padded images; levels may cover more than the image, to the right and below."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images in [0, 1]."""
        return self.encode_images(images, self.encode)

    def encode_images(self, images: Tensor, encode: Callable[[Tensor], Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Check, normalise and pad images, encode them, and crop the levels to the images."""
        self.check(images)
        levels = encode(pad_to_multiple(self.normalize(images), self.multiple))
        height, width = images.shape[-2:]
        return tuple(
            level[..., : math.ceil(height / stride), : math.ceil(width / stride)]
            for level, stride in zip(levels, self.out_strides, strict=True)
        )

    def check(self, images: Tensor) -> None:
        """Refuse images that cannot be encoded."""
        if images.ndim != 4:
            raise UserError(f'images have shape {tuple(images.shape)}; give batches, (B, {self.in_channels}, H, W)')
        channels, height, width = images.shape[1:]
        if channels != self.in_channels:
            raise UserError(
                f'images have {channels} channels, {self.name} takes {self.in_channels}; '
                f'give such images or set in_channels={channels}'
            )
        if min(height, width) < self.out_strides[-1]:
            raise UserError(
                f'images of {height}x{width} pixels are too small for {len(self.out_strides)} levels: each side must '
                f'have at least {self.out_strides[-1]} pixels, the deepest stride; give larger images or fewer levels'
            )
