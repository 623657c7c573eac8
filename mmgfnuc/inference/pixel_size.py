"""Stand-in until the pixel-size part is merged."""

import cv2
import numpy as np

from mmgfnuc.datasets.canonical import LabelMap
from mmgfnuc.datasets.colours import RGBImage


def resample_image(image: RGBImage, labels: LabelMap, from_mpp: float, to_mpp: float) -> tuple[RGBImage, LabelMap]:
    """Resample an image and its label map to pixels of another size."""
    size = [max(round(side * from_mpp / to_mpp), 1) for side in image.shape[1::-1]]
    smooth = cv2.INTER_AREA if to_mpp > from_mpp else cv2.INTER_CUBIC
    nearest = cv2.resize(labels.astype(np.int32), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return cv2.resize(image, size, interpolation=smooth), nearest
