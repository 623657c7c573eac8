"""Semantic scores, all of them functions of a confusion matrix.

One image gives one matrix; matrices add up. The same function therefore gives the scores of an image (its own matrix)
and the pooled scores of a set (the sum of its matrices).
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmgfnuc.errors import UserError

SCORE_NAMES = ('dice', 'iou', 'miou', 'weighted_f1', 'weighted_iou')


def confusion_matrix(
    prediction: npt.NDArray, target: npt.NDArray, num_classes: int, ignore_index: int = 255
) -> npt.NDArray[np.int64]:
    """Count the pixels of each pair (true class, predicted class).

    Pixels whose target is `ignore_index` are left out, whatever is predicted there.

    Shape:
        - prediction, target: (H, W) integer or boolean maps, or any other shape that both share.
        - result: (num_classes, num_classes), in pixels; entry (t, p) counts truth t predicted as p.

    Raises:
        UserError: the maps differ in shape, are not integer, or hold a class outside 0 .. num_classes - 1.

    Examples:
        >>> target = np.array([[0, 0, 1], [1, 1, 255]])
        >>> prediction = np.array([[0, 1, 1], [1, 0, 1]])
        >>> confusion_matrix(prediction, target, num_classes=2)
        array([[1, 1],
               [1, 2]])

    """
    prediction, target = np.asarray(prediction), np.asarray(target)
    if prediction.shape != target.shape:
        raise UserError(f'prediction has shape {prediction.shape}, target {target.shape}; score maps of equal shape')
    valid = target != ignore_index
    truth = _class_indices('target', target[valid], num_classes)
    guess = _class_indices('prediction', prediction[valid], num_classes)
    return np.bincount(truth * num_classes + guess, minlength=num_classes**2).reshape(num_classes, num_classes)


def foreground_counts(matrix: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of the foreground (all classes above 0 merged), in pixels.

    Confusing one foreground class with another counts as a true positive: both are nucleus.

    Shape:
        - matrix: (K, K), rows are the truth.

    Examples:
        >>> foreground_counts(np.array([[5, 1, 0], [2, 3, 4], [0, 0, 6]]))
        (13, 1, 2)

    """
    return int(matrix[1:, 1:].sum()), int(matrix[0, 1:].sum()), int(matrix[1:, 0].sum())


def semantic_scores(matrix: npt.NDArray[np.int64]) -> dict[str, float]:
    """Compute the five semantic scores, each in [0, 1], from a confusion matrix.

    With tp, fp, fn of the merged foreground, and tp_c, fp_c, fn_c, n_c = tp_c + fn_c of class c:

    - `dice` = 2 tp / (2 tp + fp + fn), foreground Dice;
    - `iou` = tp / (tp + fp + fn), foreground IoU;
    - `miou` = mean over classes of IoU_c = tp_c / (tp_c + fp_c + fn_c), background included (macro);
    - `weighted_f1` = sum_c n_c F1_c / sum_c n_c with F1_c = 2 tp_c / (2 tp_c + fp_c + fn_c);
    - `weighted_iou` = sum_c n_c IoU_c / sum_c n_c.

    The support-weighted pair is computed as in the paper's release. Background dominates it, so that it sits close to
    pixel accuracy: it is not comparable with `dice` and `iou`.

    Empty cases:

    - neither truth nor prediction has foreground: `dice` = `iou` = 1;
    - exactly one of the two has foreground: `dice` = `iou` = 0;
    - a class absent from both truth and prediction does not enter `miou`;
    - not one pixel counted (everything ignored): every score is NaN.

    Shape:
        - matrix: (K, K), rows are the truth.

    Source: Swain et al. 2024, doi:10.33851/JMIS.2024.11.4.219 (choice of the weighted pair).

    Examples:
        Truth covers 3 of 6 pixels, the prediction hits 2 of these and 1 pixel of background.

        >>> matrix = np.array([[2, 1], [1, 2]])
        >>> {name: round(score, 4) for name, score in semantic_scores(matrix).items()}
        {'dice': 0.6667, 'iou': 0.5, 'miou': 0.5, 'weighted_f1': 0.6667, 'weighted_iou': 0.5}

        An empty image that is predicted empty is right; one false pixel makes it wrong.

        >>> semantic_scores(np.array([[6, 0], [0, 0]]))['dice']
        1.0
        >>> semantic_scores(np.array([[5, 1], [0, 0]]))['dice']
        0.0

    """
    matrix = np.asarray(matrix)
    if not matrix.any():
        return dict.fromkeys(SCORE_NAMES, math.nan)
    tp, fp, fn = foreground_counts(matrix)
    errors = fp + fn
    hits, support, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    present = support + predicted > 0
    hits, support, predicted = hits[present], support[present], predicted[present]
    class_f1 = 2 * hits / (support + predicted)
    class_iou = hits / (support + predicted - hits)
    return {
        'dice': 2 * tp / (2 * tp + errors) if tp + errors else 1.0,
        'iou': tp / (tp + errors) if tp + errors else 1.0,
        'miou': float(class_iou.mean()),
        'weighted_f1': float(np.average(class_f1, weights=support)),
        'weighted_iou': float(np.average(class_iou, weights=support)),
    }


def summarise(matrices: Sequence[npt.NDArray[np.int64]]) -> dict[str, float]:
    """Summarise a set of images, given the confusion matrix of each.

    For each score of `semantic_scores`, say `dice`:

    - `dice` is the mean over images of the per-image score: every image counts alike;
    - `dice_std` is its population standard deviation over images (divisor N);
    - `dice_pooled` is the score of the summed matrix: every pixel counts alike.

    `num_images` counts the images, `num_unscored` those among them without a counted pixel (all ignored). The latter
    have no score and enter no mean; where no image has a score, mean, std and pooled are NaN.

    Shape:
        - matrices: N arrays (K, K), rows are the truth.

    Raises:
        UserError: no matrix is given.

    Examples:
        A small image, found entirely, and a larger one, found by half.

        >>> result = summarise([np.array([[1, 0], [0, 1]]), np.array([[4, 2], [2, 2]])])
        >>> result['dice'], result['dice_std'], result['dice_pooled'], result['num_images']
        (0.75, 0.25, 0.6, 2)

    """
    if len(matrices) == 0:
        raise UserError('0 images were given to score, at least 1 is needed; check the split and the data root')
    scored = [semantic_scores(matrix) for matrix in matrices if np.any(matrix)]
    pooled = semantic_scores(np.sum(matrices, axis=0))
    summary: dict[str, float] = {}
    for name in SCORE_NAMES:
        values = np.array([scores[name] for scores in scored])
        summary[name] = float(values.mean()) if scored else math.nan
        summary[f'{name}_std'] = float(values.std()) if scored else math.nan
        summary[f'{name}_pooled'] = pooled[name]
    return {**summary, 'num_images': len(matrices), 'num_unscored': len(matrices) - len(scored)}


def _class_indices(name: str, values: npt.NDArray, num_classes: int) -> npt.NDArray[np.int64]:
    if values.dtype.kind not in 'biu':
        raise UserError(
            f'{name} has dtype {values.dtype}, class maps are integer; take the argmax or threshold it first'
        )
    indices = values.astype(np.int64)
    if indices.size and not 0 <= indices.min() <= indices.max() < num_classes:
        outside = indices[(indices < 0) | (indices >= num_classes)][0]
        raise UserError(f'{name} holds class {outside}, classes are 0 to {num_classes - 1}; correct it or num_classes')
    return indices
