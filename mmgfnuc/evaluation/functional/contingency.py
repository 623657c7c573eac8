"""The contingency table of two label maps, from which every instance score follows.

A label map holds 0 for background and a positive id for each nucleus; ids need not be contiguous. Of two maps the table
keeps the nuclei of both, their areas, and the overlap of those pairs that overlap at all: a few numbers per nucleus.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mmgfnuc.errors import UserError

Indices = npt.NDArray[np.int64]
LARGEST_ID = 2**31 - 1
BLOCK = 2**16  # pixels


@dataclass(frozen=True)
class Contingency:
    """Nuclei of a truth and a prediction, and how they overlap; areas in pixels, ids ascending.

    Shape:
        - truth_ids, truth_areas: (T,); predicted_ids, predicted_areas: (P,).
        - truth_index, predicted_index, intersections, ious: (K,), one entry for each pair with a common pixel, sorted
          by truth, then prediction; the indices are positions in truth_ids and predicted_ids.
        - num_pixels: pixels that are counted, background included.
    """

    truth_ids: Indices
    predicted_ids: Indices
    truth_areas: Indices
    predicted_areas: Indices
    truth_index: Indices
    predicted_index: Indices
    intersections: Indices
    num_pixels: int

    @cached_property
    def ious(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each overlapping pair."""
        return self.intersections / self.unions

    @property
    def unions(self) -> Indices:
        """Pixels of either nucleus, for each overlapping pair."""
        areas = self.truth_areas[self.truth_index] + self.predicted_areas[self.predicted_index]
        return areas - self.intersections


def contingency_table(prediction: npt.NDArray, target: npt.NDArray, ignore: npt.NDArray | None = None) -> Contingency:
    """Cross the nuclei of two label maps.

    The maps are read run by run (a run is a stretch of a row where neither map changes), so that only the runs are
    sorted: the time grows linearly with the image.

    Ignored pixels are taken out of both maps, whatever is there: a nucleus loses its ignored part, and disappears where
    nothing else is left of it. A predicted nucleus that is ignored by more than half of its area disappears too, unless
    its remainder matches a true nucleus (IoU above 0.5); else a nucleus found in an ambiguous region would be wrong
    for the few pixels by which it leaves the region.

    Shape:
        - prediction, target: (H, W) label maps.
        - ignore: (H, W) boolean, True where nothing is scored.

    Raises:
        UserError: the maps differ in shape, are not integer, or hold an id below 0 or above 2**31 - 1.

    Source: void regions as in Kirillov et al., Panoptic Segmentation, CVPR 2019, section 4 (void labels).

    Examples:
        >>> target = np.array([[1, 1, 0, 7], [1, 1, 0, 7]])
        >>> prediction = np.array([[3, 3, 3, 5], [0, 0, 0, 5]])
        >>> table = contingency_table(prediction, target)
        >>> table.truth_ids, table.truth_areas
        (array([1, 7]), array([4, 2]))
        >>> table.predicted_ids, table.predicted_areas
        (array([3, 5]), array([3, 2]))
        >>> table.truth_index, table.predicted_index, table.intersections
        (array([0, 1]), array([0, 1]), array([2, 2]))
        >>> table.ious
        array([0.4, 1. ])

    """
    prediction, target = _checked('prediction', prediction), _checked('target', target)
    if prediction.shape != target.shape:
        raise UserError(f'prediction has shape {prediction.shape}, target {target.shape}; score maps of equal shape')
    if ignore is None:
        return _cross(prediction.ravel(), target.ravel())
    ignore = np.asarray(ignore, bool)
    if ignore.shape != target.shape:
        raise UserError(f'ignore has shape {ignore.shape}, target {target.shape}; give a mask of equal shape')
    table = _cross(prediction[~ignore], target[~ignore])
    return _without_ignored(table, *np.unique(prediction[ignore], return_counts=True))


def best_of_each(groups: Indices, scores: npt.NDArray) -> Indices:
    """Position of the largest score of each group; of equal ones the first.

    Shape:
        - groups, scores: (K,), groups ascending.
        - result: one position for each group that occurs.

    Examples:
        >>> best_of_each(np.array([0, 0, 2, 2]), np.array([0.1, 0.3, 0.2, 0.2]))
        array([1, 2])

    """
    order = np.lexsort((-scores, groups))
    return order[np.unique(groups, return_index=True)[1]]


def _checked(name: str, label_map: npt.NDArray) -> npt.NDArray:
    label_map = np.asarray(label_map)
    if label_map.dtype.kind not in 'iu':
        raise UserError(f'{name} has dtype {label_map.dtype}, label maps are integer; label its components first')
    if label_map.size and not 0 <= label_map.min() <= label_map.max() <= LARGEST_ID:
        raise UserError(
            f'{name} holds ids {label_map.min()} to {label_map.max()}, allowed are 0 to {LARGEST_ID}; renumber it'
        )
    return label_map


def _cross(predicted: npt.NDArray, truth: npt.NDArray) -> Contingency:
    # A block at a time: its runs are few enough to stay in the processor's cache while they are sorted.
    starts = range(0, max(truth.size, 1), BLOCK)
    blocks = [_count_pairs(predicted[start : start + BLOCK], truth[start : start + BLOCK]) for start in starts]
    codes, pixels, _ = _add_up(*map(np.concatenate, zip(*blocks, strict=True)))
    truth_ids, truth_areas, truth_index = _nuclei(codes >> 31, pixels)
    predicted_ids, predicted_areas, predicted_index = _nuclei(codes & LARGEST_ID, pixels)
    overlap = (truth_index >= 0) & (predicted_index >= 0)
    return Contingency(
        truth_ids,
        predicted_ids,
        truth_areas,
        predicted_areas,
        truth_index[overlap],
        predicted_index[overlap],
        pixels[overlap],
        truth.size,
    )


def _count_pairs(predicted: npt.NDArray, truth: npt.NDArray) -> tuple[Indices, Indices]:
    """Pixels of each pair of ids, background included; two ids of 31 bits make one code."""
    changes = truth[1:] != truth[:-1]
    changes |= predicted[1:] != predicted[:-1]
    starts = np.flatnonzero(np.concatenate(([truth.size > 0], changes)))
    codes = truth[starts].astype(np.int64) << 31 | predicted[starts].astype(np.int64)
    return _add_up(codes, np.diff(starts, append=truth.size))[:2]


def _nuclei(labels: Indices, pixels: Indices) -> tuple[Indices, Indices, Indices]:
    """Ids and areas of the nuclei, and the position of each label among them (-1 for background)."""
    ids, areas, index = _add_up(labels, pixels)
    background = np.count_nonzero(ids == 0)
    return ids[background:], areas[background:], index - background


def _add_up(keys: Indices, pixels: Indices) -> tuple[Indices, Indices, Indices]:
    """Distinct keys, the pixels of each, and the position of every key among them."""
    distinct, index = np.unique(keys, return_inverse=True)
    return distinct, np.bincount(index, pixels, len(distinct)).astype(np.int64), index


def _without_ignored(table: Contingency, ignored_ids: Indices, ignored_areas: Indices) -> Contingency:
    hidden = np.zeros_like(table.predicted_areas)
    _, visible, position = np.intersect1d(table.predicted_ids, ignored_ids, assume_unique=True, return_indices=True)
    hidden[visible] = ignored_areas[position]
    kept = hidden <= table.predicted_areas
    kept[table.predicted_index[table.ious > 0.5]] = True
    pairs = kept[table.predicted_index]
    return Contingency(
        table.truth_ids,
        table.predicted_ids[kept],
        table.truth_areas,
        table.predicted_areas[kept],
        table.truth_index[pairs],
        (np.cumsum(kept) - 1)[table.predicted_index[pairs]],
        table.intersections[pairs],
        table.num_pixels,
    )
