"""What is known of each nucleus of a label map."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .regions import LabelMap


@dataclass(frozen=True)
class Nuclei:
    """The N nuclei of a label map, in the order of their ids; lengths are in pixels, places (x, y) from pixel (0, 0).

    Attributes:
        ids: as in the label map.
        centroids: mean of the pixels' places.
        areas: number of pixels.
        boxes: first column, first row, and one past the last column and row.
        contours: places of the pixels along the outline of each; of the largest piece, where it is in pieces.
        confidence: mean probability of the foreground over the pixels; None where that is not given.
        types: the type that most pixels have, 0 = unknown; None where types are not given.

    Shape:
        - ids, areas, confidence, types: (N,)
        - centroids: (N, 2); boxes: (N, 4); contours: N arrays (K, 2), int32
    """

    ids: NDArray[np.int32]
    centroids: NDArray[np.float64]
    areas: NDArray[np.int64]
    boxes: NDArray[np.int64]
    contours: list[NDArray[np.int32]]
    confidence: NDArray[np.float64] | None
    types: NDArray[np.int64] | None


def describe_instances(
    labels: LabelMap,
    foreground: NDArray[np.floating] | None = None,
    type_map: NDArray[np.integer] | None = None,
) -> Nuclei:
    """Measure the nuclei of a label map.

    Every pixel votes for its type; those of type 0 do not vote, and a nucleus of which no pixel votes is of type 0. The
    lowest type wins a tie. NaN is a probability of 0.

    Shape:
        - labels: (H, W), ids may have gaps
        - foreground: (H, W), probability
        - type_map: (H, W), types from 1, 0 = background

    Source: majority of the pixels: Graham et al. 2019, doi:10.1016/j.media.2019.101563, section 3.3.
    """
    rows, columns = np.nonzero(labels)
    ids, member, areas = np.unique(labels[rows, columns], return_inverse=True, return_counts=True)
    numbered = np.zeros(labels.shape, np.int32)
    numbered[rows, columns] = member + 1
    windows = ndimage.find_objects(numbered) if ids.size else []

    def mean(values: NDArray) -> NDArray[np.float64]:
        return np.bincount(member, values, ids.size) / areas

    return Nuclei(
        ids=ids.astype(np.int32),
        centroids=np.stack([mean(columns), mean(rows)], axis=1),
        areas=areas,
        boxes=np.array([(x.start, y.start, x.stop, y.stop) for y, x in windows], np.int64).reshape(-1, 4),
        contours=[_contour(numbered, number, *window) for number, window in enumerate(windows, start=1)],
        confidence=None if foreground is None else mean(np.nan_to_num(foreground[rows, columns], nan=0.0)),
        types=None if type_map is None else _majority(type_map[rows, columns], member, ids.size),
    )


def _majority(types: NDArray[np.integer], member: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Most frequent type of each of `count` nuclei: the type of each pixel, and the nucleus that it belongs to."""
    size = int(types.max(initial=0)) + 1
    votes = np.bincount(member * size + types, minlength=count * size).reshape(count, size)
    votes[:, 0] = 0
    return votes.argmax(1)


def _contour(labels: LabelMap, number: int, rows: slice, columns: slice) -> NDArray[np.int32]:
    """Outline of one nucleus, given its window."""
    piece = (labels[rows, columns] == number).view(np.uint8)
    outlines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(columns.start, rows.start))
    return max(outlines, key=cv2.contourArea).reshape(-1, 2)
