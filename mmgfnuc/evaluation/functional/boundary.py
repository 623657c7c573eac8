"""Boundary scores of label maps, in pixels.

A boundary pixel is a pixel of a nucleus with a pixel of another nucleus, of background, or beyond the image above,
below, left or right of it. Touching nuclei therefore have a boundary between them. Boundary pixels in an ignored region
are not counted, but those of the other map may still be near them.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from .contingency import Contingency, Indices

TOLERANCE = 2.0


def boundary_pixels(label_map: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Mark the boundary pixels.

    Shape:
        - label_map, result: (H, W).

    Examples:
        >>> boundary_pixels(np.array([[0, 0, 0, 0, 0], [0, 2, 2, 2, 0], [0, 2, 2, 2, 3], [0, 2, 2, 2, 0]])).astype(int)
        array([[0, 0, 0, 0, 0],
               [0, 1, 1, 1, 0],
               [0, 1, 0, 1, 1],
               [0, 1, 1, 1, 0]])

    """
    label_map = np.asarray(label_map)
    padded = np.pad(label_map, 1)
    neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return (label_map > 0) & np.logical_or.reduce([label_map != neighbour for neighbour in neighbours])


def boundary_counts(
    prediction: npt.NDArray, target: npt.NDArray, ignore: npt.NDArray | None = None, tolerance: float = TOLERANCE
) -> Indices:
    """Count boundary pixels, and those that have one of the other map within the tolerance (equal is near enough).

    The tolerance of 2 pixels is this project's choice. The source takes 0.75 % of the image's diagonal, at 1000x1000
    pixels 10.6: more than the radius of many a nucleus.

    Shape:
        - prediction, target: (H, W) label maps; ignore: (H, W) boolean.
        - result: (5,): predicted boundary pixels near the truth, predicted ones, true ones near the prediction, true
          ones, pixels that are counted. Counts of images add up.

    Source: Csurka et al., BMVC 2013, "What is a good evaluation measure for semantic segmentation?" (BF score).
    """
    counted = np.ones(np.shape(target), bool) if ignore is None else ~np.asarray(ignore, bool)
    predicted, truth = boundary_pixels(prediction), boundary_pixels(target)
    near_truth = _near(predicted & counted, truth, tolerance)
    near_prediction = _near(truth & counted, predicted, tolerance)
    numbers = (near_truth.sum(), near_truth.size, near_prediction.sum(), near_prediction.size, counted.sum())
    return np.array(numbers, np.int64)


def boundary_f1(counts: Indices) -> float:
    """Compute the boundary F1 = 2 P R / (P + R), from the counts of an image or a sum of such.

    P is the share of predicted boundary pixels near the truth, R that of true ones near the prediction. Neither map has
    a boundary: 1; exactly one has: 0; not one pixel counted: NaN.

    Source: as `boundary_counts`.

    Examples:
        >>> target = np.array([[1, 1, 1, 1, 1, 0, 0, 0, 0, 2]])
        >>> prediction = np.array([[5, 5, 5, 0, 0, 0, 0, 0, 0, 0]])
        >>> boundary_f1(boundary_counts(prediction, target))  # P = 3 of 3, R = 5 of 6
        0.9090909090909091

    """
    near_truth, predicted, near_prediction, truth, pixels = counts.tolist()
    if not predicted and not truth:
        return 1.0 if pixels else math.nan
    if not near_truth or not near_prediction:
        return 0.0
    precision, recall = near_truth / predicted, near_prediction / truth
    return 2 * precision * recall / (precision + recall)


def hausdorff95(
    prediction: npt.NDArray, target: npt.NDArray, table: Contingency, ignore: npt.NDArray | None = None
) -> npt.NDArray[np.float64]:
    """95 % Hausdorff distance of each matched nucleus (IoU above 0.5), in pixels; multiply by mpp for micrometres.

    The larger of two numbers: the 95th percentile of the distances of its true boundary pixels to the nearest predicted
    one, and the same with truth and prediction exchanged. Percentiles are interpolated linearly.

    False negatives and false positives have none; where nothing matches the result is empty. A matched nucleus whose
    boundary is ignored on either side is left out.

    Shape:
        - prediction, target: (H, W) label maps; ignore: (H, W) boolean; table: their contingency table.
        - result: (M,), by id of the true nucleus.

    Source: Huttenlocher et al., IEEE TPAMI 15(9) 1993, doi:10.1109/34.232073 (ranked instead of largest
    distance).

    Examples:
        >>> from mmgfnuc.evaluation.functional import contingency_table
        >>> target, prediction = np.array([[1, 1, 1, 1]]), np.array([[8, 8, 8, 0]])
        >>> hausdorff95(prediction, target, contingency_table(prediction, target)).round(2)
        array([0.85])

    """
    counted = np.ones(np.shape(target), bool) if ignore is None else ~np.asarray(ignore, bool)
    matched = table.ious > 0.5
    truth = _points_of(target, table.truth_ids[table.truth_index[matched]])
    predicted = _points_of(prediction, table.predicted_ids[table.predicted_index[matched]])
    values = []
    for a, b in zip(truth, predicted, strict=True):
        distances = cdist(a, b)
        from_a, from_b = distances.min(axis=1)[counted[tuple(a.T)]], distances.min(axis=0)[counted[tuple(b.T)]]
        if len(from_a) and len(from_b):
            values.append(max(np.percentile(from_a, 95), np.percentile(from_b, 95)))
    return np.array(values)


def _near(these: npt.NDArray[np.bool_], those: npt.NDArray[np.bool_], tolerance: float) -> npt.NDArray[np.bool_]:
    """Whether each pixel of one mask has one of another within the tolerance."""
    points = np.argwhere(these)
    if not those.any():
        return np.zeros(len(points), bool)
    return KDTree(np.argwhere(those)).query(points)[0] <= tolerance


def _points_of(label_map: npt.NDArray, ids: Indices) -> list[Indices]:
    """Boundary pixels (row, column) of each of some nuclei."""
    points = np.argwhere(boundary_pixels(label_map))
    labels = label_map[tuple(points.T)]
    order = np.argsort(labels, kind='stable')
    starts, stops = (np.searchsorted(labels[order], ids, side) for side in ('left', 'right'))
    return [points[order[start:stop]] for start, stop in zip(starts, stops, strict=True)]
