"""An image and its maps at another pixel size."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .colours import RGBImage
from .images import LabelMap


def resample_image(image: RGBImage, labels: LabelMap, from_mpp: float, to_mpp: float) -> tuple[RGBImage, LabelMap]:
    """Bring an image and its label map from one pixel size to another.

    The image is averaged where pixels become larger, as a lens of less power shows it, and interpolated (bicubic) where
    they become smaller. Labels are those of the nearest pixel: nuclei of less than a pixel may vanish.

    Args:
        image: RGB.
        labels: nuclei of it.
        from_mpp: micrometres per pixel of both.
        to_mpp: those wanted.

    Shape:
        (H, W, 3), (H, W) -> (h, w, 3), (h, w), with h = round(H from_mpp / to_mpp), at least 1
    """
    height, width = (max(round(side * from_mpp / to_mpp), 1) for side in labels.shape)
    way = cv2.INTER_AREA if to_mpp > from_mpp else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=way), resample_map(labels, height, width)


def resample_map(values: NDArray, height: int, width: int) -> NDArray:
    """Take the nearest pixels of a map of labels, types or what is ignored.

    Shape:
        (H, W) -> (height, width)
    """
    places = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip((height, width), values.shape, strict=True)
    )
    return values[np.ix_(*places)]
