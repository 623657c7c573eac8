"""The contract of backbones that can be run level by level."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

from torch import Tensor

from .base import Backbone

# Takes the number of a level and its map, gives what goes on in its place, of the same shape.
AfterLevel = Callable[[int, Tensor], Tensor]


def unchanged(level: int, x: Tensor) -> Tensor:
    """Give a level as it is."""
    return x


class StagedBackbone(Backbone):
    """A backbone that makes each level only from the one above it, so that a neck can work in between.

    Subclasses build their network and implement `encode_level`. What `after_level(i, map)` returns replaces
    level i, in the pyramid and as the input of level i + 1.

    Shape:
        (B, in_channels, H, W) -> level i: (B, out_channels[i], ceil(H / out_strides[i]), ceil(W / out_strides[i]))
    """

    @abstractmethod
    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """Make a level from the one above it, level 0 from normalised images."""

    def encode(self, images: Tensor, after_level: AfterLevel = unchanged) -> list[Tensor]:
        """Encode normalised images, level by level."""
        x, pyramid = images, []
        for level in range(len(self.out_channels)):
            x = after_level(level, self.encode_level(level, x))
            pyramid.append(x)
        return pyramid

    def forward(self, images: Tensor, after_level: AfterLevel = unchanged) -> tuple[Tensor, ...]:
        """Encode images in [0, 1]."""
        return self.encode_images(images, partial(self.encode, after_level=after_level))
