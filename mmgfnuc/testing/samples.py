"""Small images of nuclei, and what a decode head gets."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from numpy.typing import NDArray
from torch import Tensor

from mmgfnuc.datasets.transforms import PackNucleiInputs
from mmgfnuc.registry import TRANSFORMS

NUCLEI = 4
IGNORED = 255


def data_samples(batch: int, height: int, width: int) -> list[SegDataSample]:
    """Truth with background, nucleus and ignored pixels in every image, at random."""
    labels = torch.randint(0, 2, (batch, 1, height, width))
    labels[..., :4, :4] = IGNORED
    samples = [SegDataSample(metainfo=dict.fromkeys(('img_shape', 'ori_shape'), (height, width))) for _ in range(batch)]
    for sample, label in zip(samples, labels, strict=True):
        sample.gt_sem_seg = PixelData(data=label)
    return samples


def label_map(size: int) -> NDArray[np.int32]:
    """Four nuclei, discs of which two touch.

    Shape:
        -> (size, size), 0 = background
    """
    rows, columns = np.mgrid[:size, :size] * 32 / size
    labels = np.zeros((size, size), np.int32)
    for number, (y, x) in enumerate([(8, 7), (8, 15), (24, 8), (22, 23)], start=1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 < 20] = number
    return labels


def nuclei_sample(size: int, types: int = 1, target: Mapping[str, Any] | None = None) -> SegDataSample:
    """Truth of `label_map` as the training pipeline packs it; the first two rows are ignored.

    Args:
        size: of the square image (pixels).
        types: of nuclei.
        target: registry config of the transform that makes the map which a head learns from.
    """
    instances, ignored = label_map(size), np.zeros((size, size), bool)
    ignored[:2] = True
    results = dict.fromkeys(PackNucleiInputs.META_KEYS) | dict(
        img=np.zeros((size, size, 3), np.uint8),
        instance_map=instances,
        ignore_map=ignored,
        type_map=np.where(instances > 0, (instances - 1) % types + 1, 0),
        ori_shape=(size, size),
    )
    if target is not None:
        results = TRANSFORMS.build(dict(target)).transform(results)
    return PackNucleiInputs().transform(results)['data_samples']


def pyramid(batch: int, height: int, width: int, channels: Sequence[int] = (4, 6, 8, 10)) -> tuple[Tensor, ...]:
    """Random levels as a backbone gives them, shallow first: level i has ceil(height / 2**i) rows."""
    return tuple(
        torch.randn(batch, width_of_level, math.ceil(height / 2**level), math.ceil(width / 2**level))
        for level, width_of_level in enumerate(channels)
    )
