"""What the metrics share: images that count once, exact gathering, reports and intervals."""

import math
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric

from mmgfnuc.datasets.canonical import CLASSES
from mmgfnuc.errors import UserError
from mmgfnuc.files import write_csv, write_json

from .functional import bootstrap_interval

LEVEL = 0.95
# Beside the reports, written after them: which checkpoint and data they are of.
TESTED = 'tested.json'

Interval = tuple[float, float]


@dataclass(frozen=True)
class ImageResult:
    """What one image contributes to the scores: its counts, and a checksum of its semantic truth."""

    img_id: str
    group: str
    truth: int
    counts: Any


class PerImageMetric(BaseMetric):
    """Scores of a set that follow from the counts of its images, and the reports of them.

    Each image counts once, by its `img_id`, however often a distributed sampler repeats it, and images are ordered by
    id before anything is averaged: equal predictions give bit-equal scores for any number of processes.

    A subclass says what an image counts (`count`), how counts add up (`pool`), which scores they give (`scores`), and
    how a set is summarised (`summarise`).

    Args:
        out_dir: folder to write to, or None to write nothing. The table `csv_name` has one line per image: id, group,
            scores (empty where there is none) and numbers. `json_name` has the summary, under `groups` the same for
            each group, and under `intervals` the 95 % bootstrap intervals over groups, see
            `functional.bootstrap_interval`: `level`, the number of `groups`, and under `scores` [low, high] by name
            (null stands for NaN and for no interval). A `tested.json` that says what earlier reports there are of is
            removed before the first is written.
        collect_device: 'cpu' or 'gpu', where MMEngine gathers the results of all processes.
        prefix: put before every key, as `prefix/dice`; by default keys are plain.
        collect_dir: folder shared by all processes through which results are gathered on the CPU.

    Raises:
        UserError: a sample without `img_id`, `group` or a map that is needed; two images with the same id.

    """

    # An empty prefix, unlike None, does not make MMEngine warn about a missing one.
    default_prefix = ''
    csv_name: ClassVar[str]
    json_name: ClassVar[str]
    mean_intervals: ClassVar[tuple[str, ...]]
    pooled_intervals: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        out_dir: str | Path | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.out_dir = None if out_dir is None else Path(out_dir)

    @abstractmethod
    def count(self, sample: dict) -> Any:
        """Count what an image contributes; the result travels between processes."""

    @abstractmethod
    def pool(self, counts: Sequence[Any]) -> Any:
        """Add the counts of images up."""

    @abstractmethod
    def scores(self, counts: Any) -> dict[str, float]:
        """Scores of the counts of an image or of a set, NaN where there is none."""

    @abstractmethod
    def numbers(self, counts: Any) -> dict[str, int]:
        """Give what the table says of an image beside its scores."""

    @abstractmethod
    def summarise(self, images: Sequence[ImageResult]) -> dict[str, Any]:
        """Summarise a set of images, ordered by id."""

    @property
    def names(self) -> Sequence[str]:
        """Keys of the scores that a validation gives, without the prefix; empty where they are not known before."""
        return ()

    @property
    def classes(self) -> Sequence[str]:
        """Class names of the data set, background included; without a data set there is one type of nucleus."""
        return (self.dataset_meta or {}).get('classes', CLASSES)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count each sample.

        Shape:
            - data_samples: dicts with the strings `img_id` and `group`, and with maps such as `gt_sem_seg`, the tensor
              `data` (1, H, W) in each.
        """
        for sample in data_samples:
            img_id, group = (_meta(sample, key) for key in ('img_id', 'group'))
            truth = zlib.crc32(self.map_of(sample, 'gt_sem_seg').astype(np.uint8).tobytes())
            self.results.append(ImageResult(img_id, group, truth, self.count(sample)))

    def map_of(self, sample: dict, key: str) -> npt.NDArray:
        """Take a map out of a sample.

        Shape:
            - result: (H, W).
        """
        if key not in sample:
            raise UserError(
                f'a sample has no {key!r}, {type(self).__name__} scores it; take a model (for pred_) or a packing '
                'transform (for gt_) that gives it, or leave this metric out of the evaluators'
            )
        data = sample[key]['data']
        return (data if isinstance(data, np.ndarray) else data.cpu().numpy())[0]

    def evaluate(self, size: int) -> dict:
        """Gather the results of all processes and score them; `size` is the number of images in the dataset."""
        # MMEngine drops what a sampler padded by cutting the gathered list at `size`, which loses real images unless
        # the sampler deals them out in turns. No process has more than `size`, so this cuts nothing: ids decide.
        return super().evaluate(size * get_world_size())

    def compute_metrics(self, results: list[ImageResult]) -> dict[str, Any]:
        """Summarise the gathered results and write the reports; MMEngine calls this on the main process only."""
        images = _unique_sorted(results)
        summary = self.summarise(images)
        if self.out_dir is not None:
            groups = {group: self.summarise(members) for group, members in sorted(by_group(images).items())}
            report = {**summary, 'groups': groups, 'intervals': self._intervals(images)}
            (self.out_dir / TESTED).unlink(missing_ok=True)
            self._write_table(self.out_dir / self.csv_name, images)
            write_json(self.out_dir / self.json_name, _strict(report))
        return summary

    def intervals(self, images: Sequence[ImageResult]) -> dict[str, Interval]:
        """Intervals of image means and pooled scores; every resample of groups is pooled anew."""
        scores = [self.scores(image.counts) for image in images]
        names = [image.group for image in images]
        means = {name: _mean_interval([image[name] for image in scores], names) for name in self.mean_intervals}
        # Groups are drawn whole, so that their counts need to be added up but once.
        groups = {name: self.pool([image.counts for image in members]) for name, members in by_group(images).items()}
        pooled = {
            f'{name}_pooled': bootstrap_interval(
                list(groups.values()), list(groups), partial(self._pooled_score, name), LEVEL
            )
            for name in self.pooled_intervals
        }
        return means | pooled

    def _pooled_score(self, name: str, counts: Sequence[Any]) -> float:
        return self.scores(self.pool(counts))[name]

    def _intervals(self, images: Sequence[ImageResult]) -> dict[str, Any]:
        found = self.intervals(images)
        scores = {name: None if math.isnan(low) else [low, high] for name, (low, high) in found.items()}
        return {'level': LEVEL, 'groups': len(by_group(images)), 'scores': scores}

    def _write_table(self, path: Path, images: Sequence[ImageResult]) -> None:
        rows = [
            {'id': image.img_id, 'group': image.group, **self.scores(image.counts), **self.numbers(image.counts)}
            for image in images
        ]
        write_csv(path, list(rows[0]), [['' if _is_nan(value) else value for value in row.values()] for row in rows])


def by_group(images: Iterable[ImageResult]) -> dict[str, list[ImageResult]]:
    """Images of each group, groups in the order of their first image."""
    groups: dict[str, list[ImageResult]] = {}
    for image in images:
        groups.setdefault(image.group, []).append(image)
    return groups


def _mean_interval(values: Sequence[float], groups: Sequence[str]) -> Interval:
    scored = [(value, group) for value, group in zip(values, groups, strict=True) if not math.isnan(value)]
    return bootstrap_interval(
        [value for value, _ in scored], [group for _, group in scored], lambda drawn: float(np.mean(drawn)), LEVEL
    )


def _meta(sample: dict, key: str) -> str:
    if key not in sample:
        raise UserError(f'a sample has no {key!r}, every one needs it; add it to meta_keys of the packing transform')
    return str(sample[key])


def _unique_sorted(results: Iterable[ImageResult]) -> list[ImageResult]:
    unique: dict[str, ImageResult] = {}
    for result in results:
        # The truth of a repeated image is the same; if it differs, these are two images and one would be lost.
        if unique.setdefault(result.img_id, result).truth != result.truth:
            raise UserError(f'two different images have the id {result.img_id!r}, ids are unique; rename one of them')
    return [unique[img_id] for img_id in sorted(unique)]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _strict(report: Any) -> Any:
    # NaN is not JSON: strict readers refuse the file.
    if isinstance(report, Mapping):
        return {name: _strict(value) for name, value in report.items()}
    return None if _is_nan(report) else report
