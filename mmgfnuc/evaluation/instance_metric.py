"""The instance scores as an MMEngine metric."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgfnuc.datasets.transforms.formatting import IGNORE_LABEL
from mmgfnuc.errors import UserError
from mmgfnuc.registry import METRICS

from .functional import (
    INSTANCE_COUNT_NAMES,
    INSTANCE_SCORE_NAMES,
    PAIRINGS,
    InstanceCounts,
    bootstrap_interval,
    boundary_counts,
    boundary_f1,
    bpq,
    centroids,
    contingency_table,
    count_r2,
    detection_f1,
    detection_matrix,
    detection_radius,
    hausdorff95,
    instance_counts,
    instance_scores,
    match_points,
    mean_over_tissues,
    mpq,
    mpq_plus,
    nucleus_types,
    pool,
    summarise_instances,
    type_f1,
    typed_counts,
    typed_pq,
)
from .per_image_metric import LEVEL, ImageResult, Interval, PerImageMetric

OTHER_SCORE_NAMES = ('detection_f1', 'boundary_f1', 'hausdorff95', 'hausdorff95_um')
INTERVAL_NAMES = ('aji', 'aji_plus', 'dq', 'sq', 'pq', 'f1_50', 'detection_f1')
# What a reader wants in a line of the log; the report has everything.
LOGGED = ('aji', 'aji_plus', 'dq', 'sq', 'pq', 'pq_pooled', 'f1_50', 'detection_f1', 'boundary_f1', 'hausdorff95')
LOGGED_TYPED = ('mpq_plus', 'mpq', 'bpq', 'type_f1', 'count_r2')


@dataclass(frozen=True)
class NucleiCounts:
    """What an image, or a set of images, adds to the scores; K types, 1 without types.

    Shape:
        - detection: (K + 2, K + 2), from `detection_matrix`.
        - types: (K, 4), from `typed_counts`.
        - boundary: (5,), from `boundary_counts`.
        - distances: (2, 2), sum and number of the 95 % Hausdorff distances of matched nuclei, in pixels and, where mpp
          is known, in micrometres.
    """

    instances: InstanceCounts
    detection: npt.NDArray[np.int64]
    types: npt.NDArray[np.float64]
    boundary: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float64]


@METRICS.register_module()
class NucleiInstanceMetric(PerImageMetric):
    """AJI, AJI+, DQ, SQ, PQ, F1 at IoU 0.5 to 0.95, detection and boundary F1, Hausdorff distance, errors, types.

    Pixels that `gt_sem_seg` labels 255 are ignored, see `functional.contingency_table`.

    The log line has, as means over images, `aji`, `aji_plus`, `dq`, `sq`, `pq`, `f1_50` (`functional.instance_scores`),
    `detection_f1` (radius by the mpp of each image), `boundary_f1`, and `hausdorff95`, in pixels, the mean over images
    with a matched nucleus of the mean over these; `pq_pooled`, over all nuclei; and the numbers of nuclei.

    Where the data set has nucleus types, also `mpq_plus`; `mpq` and `bpq`, averaged within groups, then over groups;
    `type_f1`, the mean over types of the pooled F_c; and `count_r2`, the mean over types. A nucleus has the type of
    most of its pixels, see `functional.nucleus_types`.

    Reports are `instances.csv`, with every score and number of each image, and `instances.json`: of every score, say
    `pq`, the mean over images, `pq_std` over images (divisor N) and `pq_pooled` (of `hausdorff95` the mean over all
    nuclei); `hausdorff95_um` in micrometres, over images whose mpp is known; under `types` the pooled panoptic quality,
    F_c, R2 of counts and the numbers of nuclei of each type. What else they hold, the arguments, and that each image
    counts once: see `PerImageMetric`.

    Args:
        detection_pairing: how centroids are paired, see `functional.match_points`: `most`, or `nearest` for scores that
            are to be compared with those of HoVer-Net's script, which are lower or equal.
        settings: of `PerImageMetric`.

    Shape:
        - `pred_instance_map.data`, `gt_instance_map.data` of a sample: (1, H, W), ids of nuclei, 0 background.
        - `pred_sem_seg.data`, `gt_sem_seg.data`: (1, H, W), 0 background, 1 nucleus or its type; 255 in the truth.
        - `mpp`: micrometres per pixel, or None.

    Raises:
        UserError: the model gives no `pred_instance_map`; a type is not one of the data set's; else as
            `PerImageMetric`; the pairing is unknown.

    """

    csv_name, json_name = 'instances.csv', 'instances.json'
    mean_intervals = pooled_intervals = INTERVAL_NAMES

    def __init__(self, detection_pairing: str = 'most', **settings: Any) -> None:
        super().__init__(**settings)
        if detection_pairing not in PAIRINGS:
            raise UserError(f"detection_pairing='{detection_pairing}' is unknown; choose one of {', '.join(PAIRINGS)}")
        self.detection_pairing = detection_pairing

    @property
    def names(self) -> Sequence[str]:
        """What the log line has."""
        return (*LOGGED, *INSTANCE_COUNT_NAMES, *(LOGGED_TYPED if len(self.types) > 1 else ()))

    @property
    def types(self) -> Sequence[str]:
        """Names of the types; only one where nuclei are of one kind."""
        return self.classes[1:]

    def count(self, sample: dict) -> NucleiCounts:
        """Count the nuclei of a sample: `pred_instance_map` against `gt_instance_map`, types by the semantic maps."""
        prediction, target = (self.map_of(sample, key) for key in ('pred_instance_map', 'gt_instance_map'))
        semantic = self.map_of(sample, 'gt_sem_seg')
        ignore = semantic == IGNORE_LABEL
        table = contingency_table(prediction, target, ignore)
        mpp = sample.get('mpp')
        predicted_types, true_types = np.ones_like(table.predicted_ids), np.ones_like(table.truth_ids)
        if len(self.types) > 1:
            predicted_types = nucleus_types(prediction, self.map_of(sample, 'pred_sem_seg'), table.predicted_ids)
            true_types = nucleus_types(target, np.where(ignore, 0, semantic), table.truth_ids)
        points = centroids(prediction, table.predicted_ids), centroids(target, table.truth_ids)
        pairs = match_points(*points, detection_radius(mpp), self.detection_pairing)
        return NucleiCounts(
            instances=instance_counts(table),
            detection=detection_matrix(pairs, predicted_types, true_types, len(self.types)),
            types=typed_counts(table, predicted_types, true_types, len(self.types)),
            boundary=boundary_counts(prediction, target, ignore),
            distances=_distances(hausdorff95(prediction, target, table, ignore), mpp),
        )

    def pool(self, counts: Sequence[NucleiCounts]) -> NucleiCounts:
        """Add the counts of images up."""
        columns = {field.name: [getattr(image, field.name) for image in counts] for field in fields(NucleiCounts)}
        instances = pool(columns.pop('instances'))
        return NucleiCounts(instances, **{name: sum(column) for name, column in columns.items()})

    def scores(self, counts: NucleiCounts) -> dict[str, float]:
        """Every score but those of types."""
        instances = instance_scores(counts.instances)
        in_pixels, in_micrometres = (total / number if number else math.nan for total, number in counts.distances)
        return {name: instances[name] for name in INSTANCE_SCORE_NAMES} | {
            'detection_f1': detection_f1(counts.detection) if counts.instances.num_pixels else math.nan,
            'boundary_f1': boundary_f1(counts.boundary),
            'hausdorff95': float(in_pixels),
            'hausdorff95_um': float(in_micrometres),
        }

    def numbers(self, counts: NucleiCounts) -> dict[str, int]:
        """Numbers of nuclei, also by type."""
        instances = instance_scores(counts.instances)
        numbers = {name: int(instances[name]) for name in INSTANCE_COUNT_NAMES}
        if len(self.types) > 1:
            for name, (_, _, truth, predicted) in zip(self.types, counts.types.astype(int).tolist(), strict=True):
                numbers |= {f'num_truth_{name}': truth, f'num_predicted_{name}': predicted}
        return numbers

    def summarise(self, images: Sequence[ImageResult]) -> dict[str, Any]:
        """Average every score over images, and pool it."""
        counts = [image.counts for image in images]
        summary: dict[str, Any] = summarise_instances([image.instances for image in counts])
        scores, pooled = [self.scores(image) for image in counts], self.scores(self.pool(counts))
        for name in OTHER_SCORE_NAMES:
            summary[name], summary[f'{name}_std'] = _mean_and_std([image[name] for image in scores])
            summary[f'{name}_pooled'] = pooled[name]
        return summary | (self._typed(images) if len(self.types) > 1 else {})

    def intervals(self, images: Sequence[ImageResult]) -> dict[str, Interval]:
        """Also the interval of mPQ+ where there are types."""
        intervals = super().intervals(images)
        if len(self.types) > 1:
            types, groups = [image.counts.types for image in images], [image.group for image in images]
            intervals['mpq_plus'] = bootstrap_interval(types, groups, lambda drawn: mpq_plus(sum(drawn)), LEVEL)
        return intervals

    def compute_metrics(self, results: list[ImageResult]) -> dict[str, float]:
        """Summarise, write the reports, and return what the log line has."""
        summary = super().compute_metrics(results)
        return {name: summary[name] for name in self.names}

    def _typed(self, images: Sequence[ImageResult]) -> dict[str, Any]:
        """Scores of the types, those of each one under `types`."""
        # An image that is all ignored would count as one that is rightly without nuclei.
        scored = [image for image in images if image.counts.instances.num_pixels]
        groups = [image.group for image in scored]
        total = self.pool([image.counts for image in images])
        numbers = np.array([image.counts.types[:, 2:] for image in scored]).reshape(-1, len(self.types), 2)
        r2 = count_r2(numbers[..., 1], numbers[..., 0])
        columns = {
            'pq': typed_pq(total.types),
            'f1': type_f1(total.detection),
            'count_r2': r2,
            'num_truth': total.types[:, 2].astype(int),
            'num_predicted': total.types[:, 3].astype(int),
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return {
            'mpq_plus': mpq_plus(total.types),
            'mpq': mean_over_tissues([mpq(image.counts.types) for image in scored], groups),
            'bpq': mean_over_tissues([bpq(image.counts.instances) for image in scored], groups),
            'type_f1': _mean_and_std(columns['f1'])[0],
            'count_r2': float(r2.mean()),
            'types': {name: dict(zip(columns, row, strict=True)) for name, row in zip(self.types, rows, strict=True)},
        }


def _distances(in_pixels: npt.NDArray[np.float64], mpp: float | None) -> npt.NDArray[np.float64]:
    row = np.array([in_pixels.sum(), len(in_pixels)])
    return np.array([row, row * [mpp, 1] if mpp else np.zeros(2)])


def _mean_and_std(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and population standard deviation of what is not NaN; NaN if that is nothing."""
    values = np.asarray(values)
    scored = values[~np.isnan(values)]
    return (float(scored.mean()), float(scored.std())) if len(scored) else (math.nan, math.nan)
