"""The semantic scores as an MMEngine metric."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmgfnuc.errors import UserError
from mmgfnuc.registry import METRICS

from .functional import SCORE_NAMES, confusion_matrix, foreground_counts, semantic_scores, summarise
from .per_image_metric import ImageResult, PerImageMetric

Matrix = npt.NDArray[np.int64]


@METRICS.register_module()
class NucleiSemanticMetric(PerImageMetric):
    """Foreground Dice and IoU, macro mIoU, support-weighted F1 and IoU: per image and pooled.

    Definitions and the rules for empty images: `functional.semantic_scores`; the keys that are returned:
    `functional.summarise` (`dice` is the mean over images, `dice_std` its deviation, `dice_pooled` is over all pixels).

    Reports are `per_image.csv`, with the five scores, tp, fp, fn and the foreground area of the truth in pixels, and
    `metrics.json`; what else they hold, and that each image counts once: see `PerImageMetric`.

    Shape:
        - `pred_sem_seg.data`, `gt_sem_seg.data` of a sample: (1, H, W), classes.

    Args:
        num_classes: classes of the semantic map, background (0) included; None takes those of the data set.
        ignore_index: label of pixels that do not count.
        out_dir: as in `PerImageMetric`, with all that follows.

    Raises:
        UserError: fewer than two classes; else as `PerImageMetric`.

    """

    csv_name, json_name = 'per_image.csv', 'metrics.json'
    mean_intervals, pooled_intervals = ('dice', 'iou'), ('dice',)

    def __init__(
        self,
        num_classes: int | None = None,
        ignore_index: int = 255,
        out_dir: str | Path | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(out_dir, collect_device, prefix, collect_dir)
        if num_classes is not None and num_classes < 2:
            raise UserError(f'num_classes={num_classes}, at least 2 are needed; count the background as one')
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    @property
    def names(self) -> Sequence[str]:
        """Scores of `functional.summarise`."""
        scores = [f'{name}{end}' for name in SCORE_NAMES for end in ('', '_std', '_pooled')]
        return (*scores, 'num_images', 'num_unscored')

    def count(self, sample: dict) -> Matrix:
        """Count the pixels of a sample: `pred_sem_seg` against `gt_sem_seg`.

        Shape:
            - result: (num_classes, num_classes), rows are the truth.
        """
        prediction, target = (self.map_of(sample, key) for key in ('pred_sem_seg', 'gt_sem_seg'))
        return confusion_matrix(prediction, target, self.num_classes or len(self.classes), self.ignore_index)

    def pool(self, counts: Sequence[Matrix]) -> Matrix:
        """Add the matrices of images up."""
        return np.sum(counts, axis=0)

    def scores(self, counts: Matrix) -> dict[str, float]:
        """Compute `functional.semantic_scores`."""
        return semantic_scores(counts)

    def numbers(self, counts: Matrix) -> dict[str, int]:
        """Pixels of the merged foreground: true positives, false positives, false negatives, truth."""
        tp, fp, fn = foreground_counts(counts)
        return {'tp': tp, 'fp': fp, 'fn': fn, 'foreground_pixels': tp + fn}

    def summarise(self, images: Sequence[ImageResult]) -> dict[str, float]:
        """Compute `functional.summarise`."""
        return summarise([image.counts for image in images])
