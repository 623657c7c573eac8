"""Which images a model was made for: statistics of its training images."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmgfnuc.datasets.colours import RGBImage


@dataclass(frozen=True)
class TrainingDomain:
    """Statistics of the training images of a model."""

    @classmethod
    def of(cls, images: Iterable[RGBImage], mpp: float | None) -> 'TrainingDomain':
        """Measure training images."""
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """Give the statistics as plain numbers."""
        return {}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> 'TrainingDomain':
        """Read what `to_dict` gave."""
        return cls()

    def warnings(self, image: RGBImage, mpp: float | None) -> list[str]:
        """Say how an image is unlike the training images."""
        return []
