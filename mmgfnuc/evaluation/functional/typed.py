"""Panoptic quality by nucleus type.

Types are 1 to K. A nucleus of type 0 has no known type and enters no type's score, as in the sources, which cut the
label maps by type: on a true nucleus of type 0 every typed prediction is wrong. Put such nuclei into the ignored region
to avoid that.

A pair is matched if its IoU is above 0.5 and both nuclei have the type. Ignored pixels: see `contingency_table`.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from mmgfnuc.errors import UserError

from .contingency import Contingency, Indices, best_of_each, contingency_table
from .instance import InstanceCounts, instance_scores


def nucleus_types(label_map: npt.NDArray, type_map: npt.NDArray, ids: Indices) -> Indices:
    """Type of some nuclei: the one that most of their pixels have.

    Pixels of type 0 do not vote; a nucleus without any other is of type 0. Ties: the smallest type.

    Shape:
        - label_map, type_map: (H, W); ids: (N,), ascending, each of them in the map.
        - result: (N,).

    Raises:
        UserError: as `contingency_table`.

    Source: Graham et al., HoVer-Net, 2019 (majority; the authors' post-processing).

    Examples:
        >>> nucleus_types(np.array([[4, 4, 4, 9, 9, 8]]), np.array([[2, 0, 0, 3, 1, 0]]), np.array([4, 8, 9]))
        array([2, 0, 1])

    """
    votes = contingency_table(type_map, label_map)
    winners = best_of_each(votes.truth_index, votes.intersections)
    types = np.zeros(len(votes.truth_ids), np.int64)
    types[votes.truth_index[winners]] = votes.predicted_ids[votes.predicted_index[winners]]
    return types[np.searchsorted(votes.truth_ids, ids)]


def check_types(types: npt.NDArray, num_types: int) -> None:
    """Raise UserError if a type is outside 0 .. num_types."""
    if len(types) and not 0 <= types.min() <= types.max() <= num_types:
        raise UserError(
            f'types of nuclei are {types.min()} to {types.max()}, allowed are 0 to {num_types}; correct them'
        )


def typed_counts(
    table: Contingency, predicted_types: npt.NDArray, truth_types: npt.NDArray, num_types: int
) -> npt.NDArray[np.float64]:
    """Count, by type, what panoptic quality needs; counts of images add up.

    Shape:
        - predicted_types: (P,), truth_types: (T,), in the order of the table's ids.
        - result: (num_types, 4): matched pairs, their sum of IoU, true nuclei, predicted nuclei.

    Raises:
        UserError: a type is outside 0 .. num_types.
    """
    check_types(predicted_types, num_types)
    check_types(truth_types, num_types)
    types = truth_types[table.truth_index]
    matched = (table.ious > 0.5) & (types == predicted_types[table.predicted_index])
    types, ious, size = types[matched], table.ious[matched], num_types + 1
    columns = (
        np.bincount(types, minlength=size),
        np.bincount(types, ious, size),
        np.bincount(truth_types, minlength=size),
        np.bincount(predicted_types, minlength=size),
    )
    return np.stack(columns, axis=1)[1:].astype(float)


def typed_pq(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Panoptic quality of each type: sum of IoU / (TP + FP/2 + FN/2).

    A type that occurs in neither truth nor prediction has no score: NaN. It occurs in one of them only: 0.

    Shape:
        - counts: (K, 4), from `typed_counts`, of an image or summed over images.
        - result: (K,).

    Source: Kirillov et al., Panoptic Segmentation, CVPR 2019, section 4.

    Examples:
        >>> typed_pq(np.array([[1, 0.8, 2, 1], [0, 0, 0, 0], [0, 0, 0, 3]]))
        array([0.53333333,        nan, 0.        ])

    """
    total = counts[:, 2] + counts[:, 3]
    return np.divide(2 * counts[:, 1], total, out=np.full(len(counts), math.nan), where=total > 0)


def mpq_plus(counts: npt.NDArray[np.float64]) -> float:
    """Compute mPQ+: the mean over types of the panoptic quality of the whole set.

    Counts are summed over the images first, so that a type which an image lacks does no harm. A type that the whole
    set lacks, in truth and prediction, does not enter the mean (the challenge's script would give it 0; its data have
    all types). No type at all: NaN.

    Shape:
        - counts: (K, 4), the sum over images of `typed_counts`.

    Source: Graham et al., CoNIC Challenge, Medical Image Analysis 92, 2024, doi:10.1016/j.media.2023.103047
    (the challenge's evaluation page, task 1, and compute_stats.py).

    Examples:
        >>> mpq_plus(np.array([[1, 0.8, 1, 1], [0, 0, 0, 0], [1, 0.6, 1, 2]]))
        0.6

    """
    return _mean(typed_pq(counts))


def mpq(counts: npt.NDArray[np.float64]) -> float:
    """Compute the mPQ of one image: the mean of the panoptic quality over the types that its truth has.

    A type that only the prediction has does not count, however often it occurs. An image without any typed true
    nucleus has no score: NaN. The mPQ of a set is `mean_over_tissues` of its images.

    Shape:
        - counts: (K, 4), from `typed_counts`.

    Source: Gamper et al., PanNuke Dataset Extension, Insights and Baselines, arXiv:2003.10778 (the authors'
    PanNuke-metrics, run.py).

    Examples:
        >>> mpq(np.array([[1, 0.8, 1, 1], [0, 0, 0, 7], [1, 0.6, 1, 2]]))
        0.6

    """
    return _mean(typed_pq(counts)[counts[:, 2] > 0])


def bpq(counts: InstanceCounts) -> float:
    """Compute the bPQ of one image: the panoptic quality of its nuclei, whatever their types.

    An image whose truth has no nucleus has no score, NaN, whatever is predicted there; that is all in which bPQ differs
    from `pq` of `instance_scores`. The bPQ of a set is `mean_over_tissues` of its images.

    Source: as `mpq`.
    """
    return instance_scores(counts)['pq'] if counts.num_truth else math.nan


def mean_over_tissues(values: Sequence[float], tissues: Sequence[Hashable]) -> float:
    """Average images within each tissue, then the tissues: every tissue counts alike.

    Images without a score (NaN) are left out, and so are tissues without a scored image; nothing left: NaN.

    Shape:
        - values, tissues: (N,), a score and a tissue for each image.

    Source: as `mpq`.

    Examples:
        >>> mean_over_tissues([0.2, 0.4, float('nan'), 0.9], ['colon', 'colon', 'colon', 'skin'])
        0.6000000000000001

    """
    by_tissue: dict[Hashable, list[float]] = {}
    for value, tissue in zip(values, tissues, strict=True):
        by_tissue.setdefault(tissue, []).append(value)
    return _mean(np.array([_mean(np.array(scores)) for scores in by_tissue.values()]))


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Mean of what is not NaN; NaN if that is nothing."""
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if len(scored) else math.nan
