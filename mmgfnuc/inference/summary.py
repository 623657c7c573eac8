"""An image in a few numbers: how many nuclei, how dense, how large, and how much of it is tissue."""

from typing import Any

import cv2
import numpy as np

from mmgfnuc.datasets.colours import RGBImage

from .nuclei import DECIMALS, Nuclei

# Tissue is looked for in averages of this many pixels a side: small gaps within belong to it, specks on glass do not.
BLOCK = 16
# Saturation (of HSV, 0 to 1) of the palest tissue. Glass is grey, however bright the lamp: 0.01 to 0.05 in NuInsSeg, in
# the stained images of DSB 2018 and on slides; between 0.06 and 0.12 the share of tissue changes by 0.02 to 0.06.
PALEST = 0.08


def summarise(nuclei: Nuclei) -> dict[str, Any]:
    """Give number, density and median area of the nuclei of an image, and its share of tissue, as Record names them."""
    areas = np.bincount(nuclei.labels.ravel())[1:]
    found: dict[str, Any] = {'nuclei': len(areas), 'tissue_share': round(tissue_share(nuclei.image), DECIMALS)}
    median = float(np.median(areas)) if len(areas) else None
    found['median_area_px'] = median
    if nuclei.known_mpp is not None:
        um2 = nuclei.known_mpp**2
        found['per_mm2'] = round(len(areas) / (nuclei.labels.size * um2) * 1e6, DECIMALS)
        found['median_area_um2'] = None if median is None else round(median * um2, DECIMALS)
    return found


def tissue_share(image: RGBImage) -> float:
    """Give the share of an image that is tissue: what is coloured, on average over 16 pixels a side.

    Stains colour what they bind to; what lets the light pass is grey, bright or dim as the lamp is.

    Shape:
        image (H, W, 3)
    """
    height, width = image.shape[:2]
    size = max(1, round(width / BLOCK)), max(1, round(height / BLOCK))
    colours = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    saturation = 1 - colours.min(axis=2) / np.maximum(colours.max(axis=2), 1)
    return float((saturation > PALEST).mean())
