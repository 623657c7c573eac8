"""Detection scores: nuclei as points, found if a point of the other side is near.

A nucleus is found or not, whatever its outline. One image gives one matrix of pairs by type; matrices add up, so that
the same function gives the scores of an image and the pooled scores of a set.

Ignored nuclei are left out by taking the ids from a contingency table, see `contingency_table`.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from mmgfnuc.errors import UserError

from .contingency import Indices
from .matching import best_matching
from .typed import check_types

RADIUS_PIXELS = 12.0
RADIUS_MICROMETRES = 3.0
PAIRINGS = ('most', 'nearest')


def detection_radius(mpp: float | None) -> float:
    """Radius of detection in pixels: 3 micrometres where mpp (micrometres per pixel) is known, else 12 pixels.

    12 pixels at 40x (0.25 micrometres per pixel) are 3 micrometres.

    Source: Graham et al., HoVer-Net, 2019 (12 pixels, the authors' compute_stats.py).
    """
    return RADIUS_MICROMETRES / mpp if mpp else RADIUS_PIXELS


def centroids(label_map: npt.NDArray, ids: Indices) -> npt.NDArray[np.float64]:
    """Mean position of the pixels of some nuclei.

    Take the ids from a contingency table, and nuclei that are ignored are left out. A nucleus that is ignored in part
    keeps the centroid of all of its pixels.

    Shape:
        - label_map: (H, W); ids: (N,), ascending, each of them in the map.
        - result: (N, 2), row and column in pixels, the centre of the first pixel being (0, 0).

    Examples:
        >>> centroids(np.array([[0, 7, 7], [0, 9, 9], [0, 9, 9]]), np.array([7, 9]))
        array([[0. , 1.5],
               [1.5, 1.5]])

    """
    rows, columns = np.nonzero(label_map)
    labels = label_map[rows, columns]
    index = np.minimum(np.searchsorted(ids, labels), max(len(ids) - 1, 0))
    wanted = ids[index] == labels if len(ids) else np.zeros(len(labels), bool)
    index = index[wanted]
    areas = np.bincount(index, minlength=len(ids))
    sums = [np.bincount(index, axis[wanted], len(ids)) for axis in (rows, columns)]
    return np.stack(sums, axis=1) / areas[:, None]


def match_points(
    predicted: npt.NDArray[np.float64], truth: npt.NDArray[np.float64], radius: float, pairing: str = 'most'
) -> tuple[Indices, Indices]:
    """Pair true and predicted points one to one, no pair farther apart than the radius (equal is near enough).

    `most` makes as many pairs as possible, and among the ways to do so takes one of smallest total distance. `nearest`
    does what the script of HoVer-Net's authors does: it first pairs all points of the image at smallest total distance
    and then drops the pairs that are too far apart, so that a far pair may cost a near one. It finds as many pairs or
    fewer.

    Ties: where several ways are equally good, `best_matching` says which one is taken; the number of pairs is the same.

    Shape:
        - predicted: (P, 2), truth: (T, 2), in pixels.
        - result: positions in truth and in predicted, (M,) each, pair by pair.

    Raises:
        UserError: the pairing is unknown.

    Source: `most`: own; `nearest`: Graham et al., HoVer-Net, 2019 (the authors' metrics/stats_utils.py,
    pair_coordinates).

    Examples:
        >>> predicted, truth = np.array([[0.0, 3.0], [0.0, 40.0]]), np.array([[0.0, 0.0], [9.0, 3.0]])
        >>> match_points(predicted, truth, radius=12)
        (array([0]), array([0]))

        Two pairs 10 pixels apart, or one at the same place and one 14 pixels apart, which is too far.

        >>> predicted, truth = np.array([[10.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 10.0]])
        >>> match_points(predicted, truth, radius=12)
        (array([0, 1]), array([0, 1]))
        >>> match_points(predicted, truth, radius=12, pairing='nearest')
        (array([0]), array([1]))

    """
    if pairing not in PAIRINGS:
        raise UserError(f"pairing='{pairing}' is unknown; choose one of {', '.join(PAIRINGS)}")
    if not len(predicted) or not len(truth):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if pairing == 'nearest':
        distances = cdist(truth, predicted)
        rows, columns = linear_sum_assignment(distances)
        close = distances[rows, columns] <= radius
        return rows[close], columns[close]
    near = KDTree(truth).sparse_distance_matrix(KDTree(predicted), radius, output_type='ndarray')
    order = np.lexsort((near['j'], near['i']))
    rows, columns, distances = near['i'][order], near['j'][order], near['v'][order]
    # One pair more outweighs any saving of distance.
    weights = (radius + 1) * (min(len(predicted), len(truth)) + 1) - distances
    chosen = best_matching(rows, columns, weights)
    return rows[chosen], columns[chosen]


def detection_matrix(
    pairs: tuple[Indices, Indices],
    predicted_types: npt.NDArray,
    truth_types: npt.NDArray,
    num_types: int,
) -> Indices:
    """Count the pairs of each two types, and the nuclei that are in no pair.

    Types are 1 to num_types, 0 is a nucleus of unknown type. Without types give all nuclei the type 1.

    Shape:
        - pairs: as from `match_points`; truth_types: (T,); predicted_types: (P,).
        - result: (num_types + 2, num_types + 2); entry (t, p) counts pairs of true type t and predicted type p, the
          last column false negatives, the last row false positives.

    Raises:
        UserError: a type is outside 0 .. num_types.

    Examples:
        Two pairs, one of them with the wrong type; a nucleus of type 1 is a false negative.

        >>> pairs = np.array([0, 1]), np.array([0, 1])
        >>> detection_matrix(pairs, np.array([1, 2]), np.array([1, 1, 1]), num_types=2)
        array([[0, 0, 0, 0],
               [0, 1, 1, 1],
               [0, 0, 0, 0],
               [0, 0, 0, 0]])

    """
    check_types(predicted_types, num_types)
    check_types(truth_types, num_types)
    nothing, size = num_types + 1, num_types + 2
    truth, predicted = pairs
    matrix = np.zeros((size, size), np.int64)
    np.add.at(matrix, (truth_types[truth], predicted_types[predicted]), 1)
    matrix[:, nothing] = np.bincount(np.delete(truth_types, truth), minlength=size)
    matrix[nothing, :] = np.bincount(np.delete(predicted_types, predicted), minlength=size)
    return matrix


def detection_f1(matrix: Indices) -> float:
    """Compute F_d = 2 TP_d / (2 TP_d + FP_d + FN_d), whatever the types.

    TP_d counts pairs, FP_d predicted nuclei without a partner, FN_d true ones. Neither side has a nucleus: 1; exactly
    one has: 0.

    Shape:
        - matrix: from `detection_matrix`, or a sum of such.

    Source: Graham et al., HoVer-Net, 2019, section on evaluation metrics.
    """
    found, lost = matrix[:-1, :-1].sum(), matrix[-1].sum() + matrix[:, -1].sum()
    return float(2 * found / (2 * found + lost)) if found + lost else 1.0


def type_f1(matrix: Indices) -> npt.NDArray[np.float64]:
    """Compute F_c of each type, which asks for detection and type at once.

    F_c = 2 TP_c / (2 TP_c + 2 FP_c + 2 FN_c + FP_d + FN_d), where of the pairs TP_c have the type on both sides, FP_c
    in the prediction only, FN_c in the truth only, and FP_d, FN_d are predicted and true nuclei of the type without a
    partner. The paper's formula adds pairs that have the type on neither side, TN_c, to TP_c; the authors' script
    leaves these pairs out, and so does this function. It also follows the script in that a prediction on a true nucleus
    of unknown type is not an FP_c.

    A type that occurs on neither side has no score: NaN. It occurs on one side only: 0.

    Shape:
        - matrix: from `detection_matrix`, or a sum of such: published scores are those of the sum over all images.
        - result: (num_types,).

    Source: Graham et al., HoVer-Net, 2019, section on evaluation metrics (the authors' compute_stats.py).

    Examples:
        >>> type_f1(np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]))
        array([0.4, 0. ])

    """
    types = np.arange(1, len(matrix) - 1)
    right = matrix[types, types]
    confused = matrix[1:-1, types].sum(axis=0) + matrix[types, :-1].sum(axis=1) - 2 * right
    unpaired = matrix[-1, types] + matrix[types, -1]
    total = 2 * right + 2 * confused + unpaired
    return np.divide(2 * right, total, out=np.full(len(types), math.nan), where=total > 0)


def count_r2(predicted: npt.NDArray, truth: npt.NDArray) -> npt.NDArray[np.float64]:
    """Coefficient of determination of the number of nuclei of each type, over images.

    R2 = 1 - sum of (truth - predicted)^2 / sum of (truth - mean truth)^2; at most 1, below 0 where the mean of the
    truth would be the better guess. The score of CoNIC is the mean over types.

    The truth has the same number in every image: 1 if all are predicted right, else 0, as in scikit-learn, which CoNIC
    calls. With fewer than two images it is NaN.

    Shape:
        - predicted, truth: (N, K) numbers of nuclei, by image and type.
        - result: (K,).

    Source: Graham et al., CoNIC Challenge, Medical Image Analysis 92, 2024, doi:10.1016/j.media.2023.103047
    (the challenge's evaluation page, task 2, and metrics/stats_utils.py, get_multi_r2).

    Examples:
        >>> count_r2(np.array([[1, 5], [2, 5], [4, 5]]), np.array([[1, 5], [2, 5], [3, 5]]))
        array([0.5, 1. ])

    """
    predicted, truth = np.asarray(predicted, float), np.asarray(truth, float)
    if len(truth) < 2:
        return np.full(truth.shape[1], math.nan)
    residual = ((truth - predicted) ** 2).sum(axis=0)
    total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    constant = np.where(residual == 0, 1.0, 0.0)
    return np.where(total > 0, 1 - residual / np.where(total > 0, total, 1), constant)
