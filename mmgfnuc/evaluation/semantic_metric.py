"""The semantic scores as an MMEngine metric."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric

from mmgfnuc.errors import UserError
from mmgfnuc.files import whole_file
from mmgfnuc.registry import METRICS

from .functional import SCORE_NAMES, confusion_matrix, foreground_counts, semantic_scores, summarise


@dataclass(frozen=True)
class ImageResult:
    """What one image contributes to the scores."""

    img_id: str
    group: str
    matrix: npt.NDArray[np.int64]


@METRICS.register_module()
class NucleiSemanticMetric(BaseMetric):
    """Foreground Dice and IoU, macro mIoU, support-weighted F1 and IoU: per image and pooled.

    Definitions and the rules for empty images: `functional.semantic_scores`; the keys that are returned:
    `functional.summarise` (`dice` is the mean over images, `dice_std` its deviation, `dice_pooled` is over all pixels).

    Each image counts once, by its `img_id`, however often a distributed sampler repeats it, and images are ordered by
    id before anything is averaged: equal predictions give bit-equal scores for any number of processes.

    Args:
        num_classes: classes of the semantic map, background (0) included.
        ignore_index: label of pixels that do not count.
        out_dir: folder to write to, or None to write nothing. `per_image.csv` has one line per image: id, group, the
            five scores (empty if every pixel is ignored), tp, fp, fn and the foreground area of the truth, in pixels.
            `metrics.json` has the returned numbers and, under `groups`, the same for each group (null stands for NaN).
        collect_device: 'cpu' or 'gpu', where MMEngine gathers the results of all processes.
        prefix: put before every key, as `prefix/dice`; by default keys are plain.
        collect_dir: folder shared by all processes through which results are gathered on the CPU.

    Raises:
        UserError: fewer than two classes; a sample without `img_id` or `group`; two images with the same id.

    Source: code: own.

    """

    # An empty prefix, unlike None, does not make MMEngine warn about a missing one.
    default_prefix = ''

    def __init__(
        self,
        num_classes: int = 2,
        ignore_index: int = 255,
        out_dir: str | Path | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if num_classes < 2:
            raise UserError(f'num_classes={num_classes}, at least 2 are needed; count the background as one')
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.out_dir = None if out_dir is None else Path(out_dir)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of each sample: `pred_sem_seg` against `gt_sem_seg`.

        Shape:
            - data_samples: dicts with `pred_sem_seg.data` and `gt_sem_seg.data`, tensors (1, H, W) of classes, and the
              strings `img_id` and `group`.
        """
        for sample in data_samples:
            matrix = confusion_matrix(
                sample['pred_sem_seg']['data'].cpu().numpy(),
                sample['gt_sem_seg']['data'].cpu().numpy(),
                self.num_classes,
                self.ignore_index,
            )
            self.results.append(ImageResult(_meta(sample, 'img_id'), _meta(sample, 'group'), matrix))

    def evaluate(self, size: int) -> dict:
        """Gather the results of all processes and score them; `size` is the number of images in the dataset."""
        # MMEngine drops what a sampler padded by cutting the gathered list at `size`, which loses real images unless
        # the sampler deals them out in turns. No process has more than `size`, so this cuts nothing: ids decide.
        return super().evaluate(size * get_world_size())

    def compute_metrics(self, results: list[ImageResult]) -> dict[str, float]:
        """Score the gathered results and write the reports; MMEngine calls this on the main process only."""
        images = _unique_sorted(results)
        metrics = summarise([image.matrix for image in images])
        if self.out_dir is not None:
            _write(self.out_dir / 'per_image.csv', _per_image_csv(images))
            _write(self.out_dir / 'metrics.json', _metrics_json(metrics, images))
        return metrics


def _meta(sample: dict, key: str) -> str:
    if key not in sample:
        raise UserError(f'a sample has no {key!r}, every one needs it; add it to meta_keys of the packing transform')
    return str(sample[key])


def _unique_sorted(results: Iterable[ImageResult]) -> list[ImageResult]:
    unique: dict[str, ImageResult] = {}
    for result in results:
        known = unique.setdefault(result.img_id, result)
        # The truth of a repeated image is the same; if it differs, these are two images and one would be lost.
        if not np.array_equal(known.matrix.sum(axis=1), result.matrix.sum(axis=1)):
            raise UserError(f'two different images have the id {result.img_id!r}, ids are unique; rename one of them')
    return [unique[img_id] for img_id in sorted(unique)]


def _per_image_csv(images: Sequence[ImageResult]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator='\n')
    writer.writerow(['id', 'group', *SCORE_NAMES, 'tp', 'fp', 'fn', 'foreground_pixels'])
    for image in images:
        scores = ['' if math.isnan(score) else score for score in semantic_scores(image.matrix).values()]
        tp, fp, fn = foreground_counts(image.matrix)
        writer.writerow([image.img_id, image.group, *scores, tp, fp, fn, tp + fn])
    return table.getvalue()


def _metrics_json(metrics: dict[str, float], images: Sequence[ImageResult]) -> str:
    by_group: dict[str, list[npt.NDArray[np.int64]]] = {}
    for image in images:
        by_group.setdefault(image.group, []).append(image.matrix)
    groups = {group: _without_nan(summarise(by_group[group])) for group in sorted(by_group)}
    return json.dumps({**_without_nan(metrics), 'groups': groups}, indent=2, allow_nan=False) + '\n'


def _without_nan(metrics: dict[str, float]) -> dict[str, float | None]:
    # NaN is no JSON: strict readers refuse the file.
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write_text(text, encoding='utf-8')
