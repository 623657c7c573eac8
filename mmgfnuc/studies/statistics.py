"""Scores of a study, by arm, group, fold and seed; what may be averaged and what may be resampled.

The images of a group (a slide, a patient, an organ) resemble each other, and those of a fold are scored by the same
networks. Images are therefore averaged, first over seeds, then within their group, and the tests count groups, not
images. Higher scores are better throughout; negate one where lower is better, such as a Hausdorff distance.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgfnuc.errors import UserError

Floats = npt.NDArray[np.float64]
ALPHA = 0.05
KEYS = ('arm', 'fold', 'seed', 'group', 'image')
# Equal scores stay equal whatever the order in which they are added up: means are rounded to so many decimals.
DECIMALS = 12


@dataclass(frozen=True)
class StudyScores:
    """One score of every image in every arm, fold and seed; each arm has the same ones.

    An image that several folds test counts once for each. An image whose score is not defined (NaN) in some arm, fold
    or seed is left out of all, so that arms are compared on the same images; `left_out` counts them.

    Shape:
        - values: (A, I, S) for A arms, I pairs of a fold and an image, S seeds; arms in the order of their appearance,
          the rest sorted.
        - group_of, fold_of: (I,), index into `groups` and `folds`.
    """

    score: str
    arms: tuple[str, ...]
    groups: tuple[str, ...]
    folds: tuple[str, ...]
    seeds: tuple[str, ...]
    values: Floats
    group_of: npt.NDArray[np.int64]
    fold_of: npt.NDArray[np.int64]
    left_out: int

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], score: str) -> 'StudyScores':
        """Gather a tidy table, such as `csv.DictReader` gives it.

        Args:
            rows: with the columns arm, fold, seed, group, image and the score; an empty cell is an undefined score.
            score: column of the score.

        Raises:
            UserError: a column or a row is missing, arms do not have the same images, folds and seeds, a row is there
                twice, an image is in two groups, a score is no finite number, or no image has one everywhere.
        """
        cells, group_by_image = _read_cells(rows, score)
        arms = tuple(dict.fromkeys(arm for arm, *_ in cells))
        seeds = tuple(sorted({seed for _, seed, *_ in cells}))
        items = sorted({(fold, image) for _, _, fold, image in cells})
        _check_complete(cells, arms, seeds, items)
        values = np.array([[[cells[arm, seed, *item] for seed in seeds] for item in items] for arm in arms])
        defined = ~np.isnan(values).any(axis=(0, 2))
        if not defined.any():
            raise UserError(f'no image has a {score} in every arm, fold and seed; choose another score')
        kept = [item for item, scored in zip(items, defined, strict=True) if scored]
        folds, fold_of = np.unique([fold for fold, _ in kept], return_inverse=True)
        groups, group_of = np.unique([group_by_image[image] for _, image in kept], return_inverse=True)
        names = (tuple(map(str, groups)), tuple(map(str, folds)))
        return cls(score, arms, *names, seeds, values[:, defined], group_of, fold_of, len(items) - len(kept))

    def index(self, arm: str) -> int:
        """Place of an arm.

        Raises:
            UserError: it is not there.
        """
        if arm not in self.arms:
            raise UserError(f"no arm '{arm}'; choose one of {', '.join(self.arms)}")
        return self.arms.index(arm)

    def group_means(self) -> Floats:
        """Scores averaged over seeds, then over the images of each group.

        Shape:
            - Output: (A, G) for A arms and G groups.
        """
        sums = self._group_sums(self.values)
        return np.round(sums.sum(axis=(2, 3)) / (len(self.seeds) * self._group_sizes()), DECIMALS)

    def resampled_group_means(self, values: Floats, resamples: int = 5000, seed: int = 0) -> Floats:
        """Group means of the resamples of a hierarchical bootstrap over groups, folds and seeds.

        A resample draws groups, with replacement, as many as there are. Within a group it draws the seeds of each fold,
        with replacement; the draw is one for all groups of the fold, because they are scored by the same network: what
        is good or bad luck of a training run does not average out over them. Images of a group are kept together:
        they are no independent evidence, and what varies between images is part of what varies between groups. The
        same seed gives the same draws, for every arm.

        Draws from S seeds have only (S - 1) / S of the variance that seeds bring: their deviations from the mean over
        seeds are stretched by sqrt(S / (S - 1)). One seed shows nothing of it.

        Args:
            values: scores of an arm, or differences of two arms.
            resamples: to draw.
            seed: of the draws.

        Shape:
            - values: (I, S) as in `self.values`.
            - Output: (resamples, G) for G groups drawn.

        Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8 (hierarchical data);
        Rao and Wu, J. Amer. Statist. Assoc. 83(401) 1988 (stretched deviations).
        """
        rng = np.random.default_rng(seed)
        num_groups, num_folds, num_seeds = len(self.groups), len(self.folds), len(self.seeds)
        drawn_groups = rng.integers(num_groups, size=(resamples, num_groups))
        drawn_seeds = rng.integers(num_seeds, size=(resamples, num_folds, num_seeds))
        shares = (drawn_seeds[..., None] == np.arange(num_seeds)).mean(axis=2)
        stretch = math.sqrt(num_seeds / max(num_seeds - 1, 1))
        weights = 1 / num_seeds + stretch * (shares - 1 / num_seeds)
        sums = self._group_sums(values[None])[0]
        means = np.tensordot(weights, sums, axes=((1, 2), (1, 2))) / self._group_sizes()
        return np.round(np.take_along_axis(means, drawn_groups, axis=1), DECIMALS)

    def _group_sums(self, values: Floats) -> Floats:
        """Sum over images: (A, I, S) to (A, G, F, S)."""
        sums = np.zeros((len(values), len(self.groups), len(self.folds), len(self.seeds)))
        for item, (group, fold) in enumerate(zip(self.group_of, self.fold_of, strict=True)):
            sums[:, group, fold] += values[:, item]
        return sums

    def _group_sizes(self) -> npt.NDArray[np.int64]:
        return np.bincount(self.group_of)


def _read_cells(
    rows: Iterable[Mapping[str, Any]], score: str
) -> tuple[dict[tuple[str, str, str, str], float], dict[str, str]]:
    """Score of each (arm, seed, fold, image), and group of each image."""
    cells: dict[tuple[str, str, str, str], float] = {}
    groups: dict[str, str] = {}
    for row in rows:
        lacking = [key for key in (*KEYS, score) if key not in row]
        if lacking:
            raise UserError(f'a row has no column {", ".join(lacking)}; it has {", ".join(map(str, row))}')
        arm, fold, seed, group, image = (str(row[key]) for key in KEYS)
        if groups.setdefault(image, group) != group:
            raise UserError(f"image '{image}' is in the groups '{groups[image]}' and '{group}'; an image has one group")
        if (arm, seed, fold, image) in cells:
            raise UserError(f"arm '{arm}' has image '{image}' twice in fold {fold}, seed {seed}; give each row once")
        cells[arm, seed, fold, image] = _number(row[score], score, image)
    if not cells:
        raise UserError('the table of scores is empty; give one row for each arm, fold, seed and image')
    return cells, groups


def _number(cell: Any, score: str, image: str) -> float:
    try:
        value = math.nan if cell in ('', None) else float(cell)
    except (TypeError, ValueError):
        value = math.inf
    if math.isinf(value):
        raise UserError(f"{score} of image '{image}' is {cell!r}; give a finite number, or nothing where it has none")
    return value


def _check_complete(
    cells: Mapping[tuple[str, str, str, str], float],
    arms: tuple[str, ...],
    seeds: tuple[str, ...],
    items: list[tuple[str, str]],
) -> None:
    present = {key[:3] for key in cells}
    for arm in arms:
        for seed in seeds:
            for fold, image in items:
                if (arm, seed, fold) not in present:
                    raise UserError(f"arm '{arm}' has no fold {fold}, seed {seed}; run it, all arms need the same ones")
                if (arm, seed, fold, image) not in cells:
                    raise UserError(
                        f"arm '{arm}' has no score of image '{image}' in fold {fold}, seed {seed}; test all images"
                    )
