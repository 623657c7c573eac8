"""Scores of a model on images that it has not seen: by group, at several pixel sizes, and where nuclei are lost."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmgfnuc.datasets.canonical import (
    LabelMap,
    Mask,
    list_ids,
    read_ignore,
    read_image,
    read_label_map,
    read_meta,
    read_split,
    sample_paths,
)
from mmgfnuc.datasets.colours import RGBImage
from mmgfnuc.datasets.resampling import resample_image, resample_map
from mmgfnuc.datasets.transforms.formatting import IGNORE_LABEL
from mmgfnuc.errors import UserError
from mmgfnuc.evaluation.functional import (
    PREDICTED_STATES,
    TRUE_STATES,
    bootstrap_interval,
    centroids,
    confusion_matrix,
    contingency_table,
    detection_f1,
    detection_matrix,
    detection_radius,
    instance_counts,
    instance_scores,
    match_points,
    nucleus_states,
    semantic_scores,
)

from .card import FEWEST, SCORES
from .nuclei import Nuclei
from .predictor import Predictor

# Micrometres per pixel to which images are resampled: scans at about 40x, 20x and 10x.
MPPS = (0.25, 0.5, 1.0)
LEVEL = 0.95
# Parts of a split that a training does not see, the last one first.
HELD_OUT = ('test', 'val')
DECIMALS = 6


@dataclass(frozen=True)
class Sample:
    """An annotated image of a prepared data set; `mpp` is None where its pixel size is unknown."""

    root: Path
    image: str
    group: str
    mpp: float | None

    def read(self) -> tuple[RGBImage, LabelMap, Mask]:
        """Read the image, its label map, and where nothing is scored.

        Shape:
            (H, W, 3), (H, W), (H, W)
        """
        paths = sample_paths(self.root, self.image)
        image, labels = read_image(paths.image), read_label_map(paths.label)
        return image, labels, read_ignore(paths.ignore) if paths.ignore else np.zeros(labels.shape, bool)


@dataclass(frozen=True)
class ImageScores:
    """What a model makes of an image: scores by name, and how many nuclei are in each state of `nucleus_states`.

    The scores are NaN where all of the image is ignored.
    """

    sample: Sample
    scores: Mapping[str, float]
    truth: Mapping[str, int] = field(default_factory=dict)
    predicted: Mapping[str, int] = field(default_factory=dict)


def find_samples(roots: Sequence[str | Path], split: str | None, mpp: float | None) -> list[Sample]:
    """List the images of data sets, or of what a split of that name holds out of training: its test part, else val.

    Args:
        roots: of prepared data sets.
        split: of all of them; None takes every image.
        mpp: micrometres per pixel of images whose data set does not state it.

    Raises:
        UserError: a data set or its split is missing, or two images have one name.
    """
    samples = []
    for root in map(Path, roots):
        described = read_meta(root)['images']
        for image in list_ids(root) if split is None else _held_out(root, split):
            if image not in described:
                raise UserError(f"{root}/meta.json does not describe '{image}'; prepare the data set again")
            samples.append(Sample(root, image, described[image]['group'], described[image]['mpp'] or mpp))
    twice = [name for name, count in Counter(sample.image for sample in samples).items() if count > 1]
    if twice:
        raise UserError(f"{len(twice)} images are in two of the data sets, such as '{twice[0]}'; give each image once")
    return samples


def _held_out(root: Path, split: str) -> list[str]:
    parts = read_split(root, split)
    for part in HELD_OUT:
        if parts.get(part):
            return parts[part]
    raise UserError(f"split '{split}' of {root} has no images in {' or '.join(HELD_OUT)}; name another --split")


def score_images(predictor: Predictor, samples: Iterable[Sample], mpp: float | None = None) -> list[ImageScores]:
    """Score each image as it is, or resampled to pixels of `mpp` micrometres with its truth."""
    return [score_image(predictor, sample, mpp) for sample in samples]


def score_image(predictor: Predictor, sample: Sample, mpp: float | None = None) -> ImageScores:
    """Score one image, see `score_images`."""
    image, truth, ignore = sample.read()
    if mpp is not None:
        image, truth = resample_image(image, truth, _known(sample), mpp)
        ignore = resample_map(ignore, *truth.shape)
    mpp = mpp or sample.mpp
    nuclei = predictor(image, mpp)
    scores, states = compare(nuclei, truth, ignore, mpp)
    return ImageScores(sample, scores, *states)


def _known(sample: Sample) -> float:
    if sample.mpp is None:
        raise UserError(f"the pixel size of '{sample.image}' is unknown, so it is not resampled; give --mpp")
    return sample.mpp


def compare(
    nuclei: Nuclei, truth: LabelMap, ignore: NDArray[np.bool_], mpp: float | None
) -> tuple[dict[str, float], tuple[dict[str, int], dict[str, int]]]:
    """Give the scores of SCORES, and the counts of TRUE_STATES and PREDICTED_STATES, as `mmgfnuc test` has them.

    Shape:
        truth, ignore (H, W)
    """
    table = contingency_table(nuclei.labels, truth, ignore)
    classes = np.where(ignore, IGNORE_LABEL, truth > 0)
    points = centroids(nuclei.labels, table.predicted_ids), centroids(truth, table.truth_ids)
    pairs = match_points(*points, detection_radius(mpp))
    ones = np.ones_like(table.predicted_ids), np.ones_like(table.truth_ids)
    instances = instance_scores(instance_counts(table))
    scores = {
        'dice': semantic_scores(confusion_matrix(nuclei.semantic > 0, classes, num_classes=2))['dice'],
        'aji': instances['aji'],
        'pq': instances['pq'],
        'detection_f1': detection_f1(detection_matrix(pairs, *ones, 1)) if table.num_pixels else math.nan,
    }
    return scores, nucleus_states(table).counts


def measure(predictor: Predictor, samples: Sequence[Sample]) -> tuple[dict[str, Any], list[ImageScores]]:
    """Measure a model: what metrics.json holds of its scores, and the scores of each image.

    `pixel_sizes` is there where the pixel size of the model and of every image is known.
    """
    scored = score_images(predictor, tqdm(samples, 'score', unit='image'))
    groups = {group: _of_group(scored, group) for group in sorted({each.sample.group for each in scored})}
    found = {**_summary(scored), 'level': LEVEL, 'groups': groups}
    if predictor.preprocessing.mpp is not None and all(sample.mpp for sample in samples):
        found['pixel_sizes'] = [
            {'mpp': mpp, **_summary(score_images(predictor, tqdm(samples, f'at {mpp:g} um', unit='image'), mpp))}
            for mpp in MPPS
        ]
    return found, scored


def _of_group(scored: Sequence[ImageScores], group: str) -> dict[str, Any]:
    return _summary([each for each in scored if each.sample.group == group])


def _summary(scored: Sequence[ImageScores]) -> dict[str, Any]:
    """Count images and nuclei, average the scores over images, and give their intervals over groups."""
    kept = [each for each in scored if not math.isnan(each.scores['dice'])]
    groups = [each.sample.group for each in kept]
    states = {
        kind: {state: sum(getattr(each, kind)[state] for each in scored) for state in names}
        for kind, names in (('truth', TRUE_STATES), ('predicted', PREDICTED_STATES))
    }
    scores = {name: _averaged([each.scores[name] for each in kept], groups) for name in SCORES}
    return {'images': len(scored), 'unscored': len(scored) - len(kept), 'scores': scores, **states}


def _averaged(values: Sequence[float], groups: Sequence[str]) -> dict[str, Any]:
    """Mean over images and over groups, and the interval of the first by the cluster bootstrap over groups."""
    if not values:
        return {'mean': None, 'mean_of_groups': None, 'interval': None}
    of_groups = [
        np.mean([value for value, one in zip(values, groups, strict=True) if one == group])
        for group in sorted(set(groups))
    ]
    ends = bootstrap_interval(values, groups, lambda drawn: float(np.mean(drawn)), LEVEL)
    return {
        'mean': round(float(np.mean(values)), DECIMALS),
        'mean_of_groups': round(float(np.mean(of_groups)), DECIMALS),
        'interval': None if math.isnan(ends[0]) else [round(end, DECIMALS) for end in ends],
    }


def worst_images(scored: Iterable[ImageScores], most: int) -> list[ImageScores]:
    """Choose the images of lowest AJI, with at least FEWEST true nuclei.

    At most one of each group is chosen: they show more than one kind of failure.
    """
    worst: dict[str, ImageScores] = {}
    for each in sorted(scored, key=lambda each: (each.scores['aji'], each.sample.image)):
        if sum(each.truth.values()) >= FEWEST:
            worst.setdefault(each.sample.group, each)
    return list(worst.values())[:most]
