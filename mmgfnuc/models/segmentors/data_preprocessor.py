"""From loaded tiles to a model batch."""

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmgfnuc.errors import UserError
from mmgfnuc.registry import MODELS


@MODELS.register_module()
class NucleiDataPreprocessor(BaseDataPreprocessor):
    """Stack RGB uint8 images and scale them to [0, 1]; each branch of the model normalises for itself.

    Shape:
        B images (3, H, W) uint8 -> (B, 3, H, W) float in [0, 1]
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move a collated batch to the model's device."""
        data = self.cast_data(data)
        return {'inputs': _stack(data['inputs']) / 255.0, 'data_samples': data.get('data_samples')}


def _stack(images: list[Tensor] | Tensor) -> Tensor:
    if isinstance(images, Tensor):
        return images
    sizes = sorted({tuple(image.shape[-2:]) for image in images})
    if len(sizes) > 1:
        raise UserError(
            f'a batch holds images of different sizes {sizes[0]} and {sizes[1]} (pixels); '
            'crop them to one size in the pipeline, or set batch_size=1'
        )
    return torch.stack(images)
