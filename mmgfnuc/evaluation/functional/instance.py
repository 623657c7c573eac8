"""Instance scores of label maps, all of them functions of a contingency table.

One image gives one set of counts; counts add up. The same function therefore gives the scores of an image (its own
counts) and the pooled scores of a set (the sum of its counts).

Rules that hold for every score of this module:

- neither truth nor prediction has a nucleus: the score is 1; exactly one of the two has: it is 0;
- not one pixel counted (everything ignored): it is NaN;
- ignored pixels: see `contingency_table`;
- a pair matches at an IoU threshold t if its IoU is above t, never equal to it: at t = 0.5 and above no nucleus can
  have two partners then, and nothing is left to choose.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from mmgfnuc.errors import UserError

from .contingency import Contingency, best_of_each
from .matching import best_matching

IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
F1_NAMES = tuple(f'f1_{round(100 * threshold)}' for threshold in IOU_THRESHOLDS)
INSTANCE_SCORE_NAMES = ('aji', 'aji_plus', 'dq', 'sq', 'pq', *F1_NAMES)
INSTANCE_COUNT_NAMES = ('num_truth', 'num_predicted', 'false_negatives', 'false_positives', 'merged', 'split')


def aji_areas(table: Contingency) -> tuple[int, int]:
    """Intersection and union, in pixels, whose quotient is the Aggregated Jaccard Index.

    Each true nucleus is paired with the predicted one of largest IoU. Intersections and unions of these pairs are
    summed; the area of each true nucleus that nothing overlaps, and of each predicted nucleus that is in no pair, is
    added to the union. A predicted nucleus may serve several true ones; the order in which nuclei are visited does not
    matter.

    Ties: of predicted nuclei with equal IoU the one of smallest id.

    The authors' first script took a predicted nucleus out once it was used, and charged the first predicted nucleus to
    every true nucleus that nothing overlaps; their corrected script of July 2018, which ranked MoNuSeg, is what is
    computed here.

    Source: Kumar et al., IEEE TMI 36(7) 2017, algorithm 1, doi:10.1109/TMI.2017.2677499; MoNuSeg 2018 (the authors'
    Aggregated_Jaccard_Index_v1_0.m).

    Examples:
        One predicted nucleus serves both true ones: intersections 2 + 2, unions 5 + 5.

        >>> from mmgfnuc.evaluation.functional import contingency_table
        >>> aji_areas(contingency_table(np.array([4, 4, 4, 4, 4]), np.array([1, 1, 0, 2, 2])))
        (4, 10)

    """
    return _areas(table, best_of_each(table.truth_index, table.ious))


def aji_plus_areas(table: Contingency) -> tuple[int, int]:
    """Intersection and union, in pixels, whose quotient is AJI+.

    As AJI, but pairs are one to one, chosen such that the sum of their IoU is largest. The area of every nucleus
    without a partner is added to the union.

    Ties: where several choices have the same sum of IoU, `best_matching` says which one is taken.

    Source: Graham et al., HoVer-Net, Medical Image Analysis 58, 2019, doi:10.1016/j.media.2019.101563 (the authors'
    metrics/stats_utils.py, get_fast_aji_plus).

    Examples:
        The predicted nucleus serves one of the two true ones, the other is a false negative: 2 of 5 + 2 pixels.

        >>> from mmgfnuc.evaluation.functional import contingency_table
        >>> aji_plus_areas(contingency_table(np.array([4, 4, 4, 4, 4]), np.array([1, 1, 0, 2, 2])))
        (2, 7)

    """
    return _areas(table, best_matching(table.truth_index, table.predicted_index, table.ious))


def merged_nuclei(table: Contingency) -> npt.NDArray[np.bool_]:
    """Say which predicted nuclei merge true ones: those that cover at least two true nuclei, each by more than half.

    No tie can occur: a true nucleus has at most one predicted nucleus on more than half of it. The rule is the one by
    which cell tracking assigns markers. An IoU above 0.1, also in use, would count neighbours that are merely grazed.

    Shape:
        - result: (P,), in the order of table.predicted_ids.

    Source: Matula et al., PLoS ONE 10(12) 2015, doi:10.1371/journal.pone.0144959 (covering by more than half).

    Examples:
        >>> from mmgfnuc.evaluation.functional import contingency_table
        >>> merged_nuclei(contingency_table(np.array([4, 4, 4, 4, 4]), np.array([1, 1, 0, 2, 2])))
        array([ True])

    """
    covered = 2 * table.intersections > table.truth_areas[table.truth_index]
    return np.bincount(table.predicted_index[covered], minlength=len(table.predicted_ids)) > 1


def split_nuclei(table: Contingency) -> npt.NDArray[np.bool_]:
    """Say which true nuclei are split: those that cover at least two predicted nuclei, each by more than half.

    `merged_nuclei` with truth and prediction exchanged.

    Shape:
        - result: (T,), in the order of table.truth_ids.

    Source: as `merged_nuclei`.

    Examples:
        >>> from mmgfnuc.evaluation.functional import contingency_table
        >>> split_nuclei(contingency_table(np.array([1, 1, 0, 2, 2]), np.array([4, 4, 4, 4, 4])))
        array([ True])

    """
    covered = 2 * table.intersections > table.predicted_areas[table.predicted_index]
    return np.bincount(table.truth_index[covered], minlength=len(table.truth_ids)) > 1


@dataclass(frozen=True)
class InstanceCounts:
    """What an image, or a set of images, adds to the instance scores.

    Shape:
        - aji, aji_plus: (2,), intersection and union in pixels.
        - hits: (10,), matched pairs at each of IOU_THRESHOLDS; iou_sum: sum of IoU of those at 0.5.
    """

    num_pixels: int
    num_truth: int
    num_predicted: int
    aji: npt.NDArray[np.int64]
    aji_plus: npt.NDArray[np.int64]
    hits: npt.NDArray[np.int64]
    iou_sum: float
    merged: int
    split: int


def instance_counts(table: Contingency) -> InstanceCounts:
    """Count what `instance_scores` needs."""
    ious = table.ious
    return InstanceCounts(
        num_pixels=table.num_pixels,
        num_truth=len(table.truth_ids),
        num_predicted=len(table.predicted_ids),
        aji=np.array(aji_areas(table)),
        aji_plus=np.array(aji_plus_areas(table)),
        hits=np.array([np.count_nonzero(ious > threshold) for threshold in IOU_THRESHOLDS]),
        iou_sum=float(ious[ious > 0.5].sum()),
        merged=int(merged_nuclei(table).sum()),
        split=int(split_nuclei(table).sum()),
    )


def pool(counts: Sequence[InstanceCounts]) -> InstanceCounts:
    """Add the counts of images up."""
    names = [field.name for field in fields(InstanceCounts)]
    return InstanceCounts(**{name: sum(getattr(image, name) for image in counts) for name in names})


def instance_scores(counts: InstanceCounts) -> dict[str, float]:
    """Compute the instance scores, each in [0, 1], and the numbers of nuclei found and lost.

    With TP_t pairs of IoU above t among T true and P predicted nuclei, FN_t = T - TP_t, FP_t = P - TP_t:

    - `aji`, `aji_plus`: see `aji_areas`, `aji_plus_areas`;
    - `dq` = TP / (TP + FP/2 + FN/2) at t = 0.5, detection quality (recognition quality, RQ, in the source);
    - `sq` = sum of IoU over the matched pairs / TP, segmentation quality; 0 where nothing matches;
    - `pq` = dq * sq, panoptic quality;
    - `f1_50` to `f1_95` = 2 TP_t / (2 TP_t + FP_t + FN_t) at t = 0.5 to 0.95; `f1_50` equals `dq`;
    - `num_truth` = T, `num_predicted` = P, `false_negatives` = FN and `false_positives` = FP at t = 0.5;
    - `merged`: predicted nuclei that merge true ones, `split`: true nuclei that are split. A nucleus may be two of
      these, such as merged and a false negative.

    Neither truth nor prediction has a nucleus: every score is 1, `sq` too. Exactly one of them has: every score is 0.
    Not one pixel counted: every score is NaN.

    Source: Kirillov et al., Panoptic Segmentation, CVPR 2019, section 4 (PQ); Graham et al., HoVer-Net, 2019 (its use
    for nuclei, and the names DQ and SQ); Caicedo et al., Cytometry A 95(9) 2019, doi:10.1002/cyto.a.23863 (F1 over
    IoU).

    Examples:
        Two of three nuclei are found, one exactly, one with IoU 0.75.

        >>> from mmgfnuc.evaluation.functional import contingency_table
        >>> target = np.array([1, 1, 1, 1, 0, 2, 0, 3])
        >>> prediction = np.array([5, 5, 5, 0, 0, 6, 0, 0])
        >>> scores = instance_scores(instance_counts(contingency_table(prediction, target)))
        >>> scores['dq'], scores['sq'], scores['pq'], scores['f1_70'], scores['f1_75']
        (0.8, 0.875, 0.7000000000000001, 0.8, 0.4)
        >>> round(scores['aji'], 3), scores['false_negatives'], scores['false_positives']
        (0.667, 1, 0)

    """
    hits, total = counts.hits, counts.num_truth + counts.num_predicted
    numbers = {
        'num_truth': counts.num_truth,
        'num_predicted': counts.num_predicted,
        'false_negatives': counts.num_truth - int(hits[0]),
        'false_positives': counts.num_predicted - int(hits[0]),
        'merged': counts.merged,
        'split': counts.split,
    }
    if not total:
        return dict.fromkeys(INSTANCE_SCORE_NAMES, 1.0 if counts.num_pixels else math.nan) | numbers
    f1 = dict(zip(F1_NAMES, (2 * hits / total).tolist(), strict=True))
    sq = counts.iou_sum / int(hits[0]) if hits[0] else 0.0
    scores = {
        'aji': float(counts.aji[0] / counts.aji[1]),
        'aji_plus': float(counts.aji_plus[0] / counts.aji_plus[1]),
        'dq': f1['f1_50'],
        'sq': sq,
        'pq': f1['f1_50'] * sq,
    }
    return scores | f1 | numbers


def summarise_instances(counts: Sequence[InstanceCounts]) -> dict[str, float]:
    """Summarise a set of images, given the counts of each.

    For each score of `instance_scores`, say `pq`:

    - `pq` is the mean over images of the per-image score: every image counts alike;
    - `pq_std` is its population standard deviation over images (divisor N);
    - `pq_pooled` is the score of the summed counts: every nucleus counts alike (for AJI every pixel).

    The numbers of nuclei are summed. `num_images` counts the images, `num_unscored` those among them without a counted
    pixel (all ignored); they have no score and enter no mean.

    Raises:
        UserError: no image is given.
    """
    if len(counts) == 0:
        raise UserError('0 images were given to score, at least 1 is needed; check the split and the data root')
    scored = [instance_scores(image) for image in counts if image.num_pixels]
    pooled = instance_scores(pool(counts))
    summary: dict[str, float] = {}
    for name in INSTANCE_SCORE_NAMES:
        values = np.array([scores[name] for scores in scored])
        summary[name] = float(values.mean()) if scored else math.nan
        summary[f'{name}_std'] = float(values.std()) if scored else math.nan
        summary[f'{name}_pooled'] = pooled[name]
    summary |= {name: pooled[name] for name in INSTANCE_COUNT_NAMES}
    return {**summary, 'num_images': len(counts), 'num_unscored': len(counts) - len(scored)}


def _areas(table: Contingency, pairs: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Intersection and union of some pairs, the nuclei in none of them added to the union."""
    false_negatives = np.delete(table.truth_areas, table.truth_index[pairs])
    false_positives = np.delete(table.predicted_areas, table.predicted_index[pairs])
    union = table.unions[pairs].sum() + false_negatives.sum() + false_positives.sum()
    return int(table.intersections[pairs].sum()), int(union)
