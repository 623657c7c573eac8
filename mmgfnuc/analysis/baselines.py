"""What a threshold reaches without any learning."""

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from mmgfnuc.datasets import NucleiDataset
from mmgfnuc.datasets.transforms import semantic_map
from mmgfnuc.evaluation.functional import confusion_matrix, summarise


def otsu_mask(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Call dark pixels of the red channel nucleus, by Otsu's global threshold of the image.

    Hematoxylin absorbs red light, eosin hardly does.

    Shape:
        (H, W, 3) RGB -> (H, W): 0 background, 1 nucleus

    Source: Otsu 1979, "A Threshold Selection Method from Gray-Level Histograms".
    """
    red = image[..., 0]
    return (red <= threshold_otsu(red)).astype(np.uint8)


def otsu_scores(dataset: NucleiDataset) -> dict[str, float]:
    """Scores of `otsu_mask` on a data set without a pipeline, with the keys of the semantic metric."""
    samples = (dataset[index] for index in range(len(dataset)))
    return summarise(
        [
            confusion_matrix(otsu_mask(sample['img']), semantic_map(sample['instance_map'], sample['ignore_map']), 2)
            for sample in samples
        ]
    )
