"""A fixed number of augmented variants per image."""

import hashlib
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmgfnuc.errors import UserError
from mmgfnuc.registry import TRANSFORMS


@TRANSFORMS.register_module()
class AugmentationBank(BaseTransform):
    """Let the random transforms that follow make one of a few variants of each image, the same in every epoch and run.

    The variant is drawn anew each time. Put it first in a pipeline. Cached features of a frozen encoder (see
    FeatureCache) are then found again once every variant has been seen.

    Args:
        variants: of each image; more of them augment more, and are found again later.
    """

    def __init__(self, variants: int) -> None:
        if variants < 1:
            raise UserError(f'variants={variants}: give 1 or more')
        self.variants = variants

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace `rng` by that of the variant, which depends only on `img_id` and its number."""
        variant = int(results['rng'].integers(self.variants))
        name = hashlib.sha256(str(results['img_id']).encode()).digest()
        results['rng'] = np.random.default_rng([variant, *name])
        return results
