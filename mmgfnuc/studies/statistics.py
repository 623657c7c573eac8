"""Scores of a study by arm, group, fold and seed: means, intervals, and whether two arms differ.

The images of a group (a slide, a patient, an organ) resemble each other, and those of a fold are scored by the same
networks. Images are therefore averaged, first over seeds, then within their group, and intervals count groups, not
images. Higher scores are better throughout; negate one where lower is better, such as a Hausdorff distance.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

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
            rows: with the columns arm, fold, seed, group, image and the score; an empty one is an undefined score.
            score: column of the score.

        Raises:
            UserError: a column or a row is missing, arms do not have the same images, folds and seeds, a row is there
                twice, an image is in two groups, a score is not a finite number, or no image has one everywhere.
        """
        entries, group_by_image = _read_entries(rows, score)
        arms = tuple(dict.fromkeys(arm for arm, *_ in entries))
        seeds = tuple(sorted({seed for _, seed, *_ in entries}))
        items = sorted({(fold, image) for _, _, fold, image in entries})
        _check_complete(entries, arms, seeds, items)
        values = np.array([[[entries[arm, seed, *item] for seed in seeds] for item in items] for arm in arms])
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
        sums = np.zeros((len(self.groups), len(self.arms)))
        np.add.at(sums, self.group_of, self.values.mean(axis=2).T)
        return np.round(sums.T / self._group_sizes(), DECIMALS)

    def network_shares(self, values: Floats) -> Floats:
        """Split the mean over groups into what each network, one for each fold and seed, adds to it.

        Args:
            values: scores of an arm, or differences of two arms.

        Shape:
            - values: (I, S) as in `self.values`.
            - Output: (F, S) for F folds; summed over folds and averaged over seeds it is the mean over groups.
        """
        weights = 1 / (self._group_sizes()[self.group_of] * len(self.groups))
        shares = np.zeros((len(self.folds), len(self.seeds)))
        np.add.at(shares, self.fold_of, weights[:, None] * values)
        return shares

    def _group_sizes(self) -> npt.NDArray[np.int64]:
        return np.bincount(self.group_of)


@dataclass(frozen=True)
class Comparison:
    """An arm against its baseline, over groups.

    `by_group` holds the difference of each group, `mean_difference` is their mean, and `interval` that of `interval_of`
    for all `num_comparisons` together. It alone decides: a difference is significant where it excludes 0.
    """

    arm: str
    baseline: str
    by_group: Mapping[str, float]
    mean_difference: float
    interval: tuple[float, float] | None
    num_comparisons: int
    num_seeds: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.interval is None:
            needed = f'{_count(self.num_comparisons, "comparison")} would take {fewest_groups(self.num_comparisons)}'
            return f'no verdict, too few groups: {len(self.by_group)} ({needed})'
        if self.significant:
            return 'a significant gain' if self.mean_difference > 0 else 'a significant loss'
        return 'no significant difference'

    @property
    def evidence(self) -> str:
        """The difference and its interval."""
        if self.interval is None:
            return f'{self.mean_difference:+.3f}'
        low, high = self.interval
        several = f', simultaneous for {self.num_comparisons} comparisons' if self.num_comparisons > 1 else ''
        return f'{self.mean_difference:+.3f} ({100 * (1 - ALPHA):g} % interval {low:+.3f} to {high:+.3f}{several})'

    def in_words(self, title: str) -> str:
        """Say the result in a sentence.

        Args:
            title: name of the score, such as `Dice`.
        """
        better = sum(difference > 0 for difference in self.by_group.values())
        one_seed = ' With one seed, the interval leaves out the luck of training.' if self.num_seeds == 1 else ''
        return (
            f'{self.arm}: {title} {self.evidence} against {self.baseline}, better in {better} of '
            f'{_count(len(self.by_group), "group")}: {self.verdict}.{one_seed * (self.interval is not None)}'
        )


def compare(scores: StudyScores, pairs: Sequence[tuple[str, str]]) -> tuple[Comparison, ...]:
    """Compare arms with their baselines, by paired differences of group means.

    Args:
        scores: of all arms.
        pairs: arm and baseline of each comparison. The intervals hold for all of them together.

    Raises:
        UserError: an arm is not there.
    """
    means = scores.group_means()
    comparisons = []
    for arm, baseline in pairs:
        own, other = scores.index(arm), scores.index(baseline)
        row = np.round(means[own] - means[other], DECIMALS)
        shares = scores.network_shares(scores.values[own] - scores.values[other])
        comparisons.append(
            Comparison(
                arm=arm,
                baseline=baseline,
                by_group=dict(zip(scores.groups, row.tolist(), strict=True)),
                mean_difference=float(row.mean()),
                interval=interval_of(row, shares, len(pairs)),
                num_comparisons=len(pairs),
                num_seeds=len(scores.seeds),
            )
        )
    return tuple(comparisons)


def interval_of(by_group: Floats, by_network: Floats, num_comparisons: int = 1) -> tuple[float, float] | None:
    """95 % interval of a mean over groups that holds for several comparisons together; None for too few groups.

    The mean varies with the groups, V_g = variance over G groups / G, and with the luck of training, V_n = sum over F
    folds of (variance over S seeds / S) of what their networks add to it. The interval is
    mean -+ sqrt(t_g^2 V_g + t_n^2 V_n), t_g and t_n being the 1 - 0.05 / (2 m) quantiles of Student's t for m
    comparisons (Bonferroni), with G - 1 and F (S - 1) degrees of freedom. If both are normal, and the luck of training
    varies alike in all folds, each interval leaves out the true value with probability 0.05 / m at most, whatever their
    shares. One seed shows no V_n.

    A resampling of the seeds would not do: two in each of three folds have only 27 different draws.

    Shape:
        - by_group: (G,), differences of the groups, or scores.
        - by_network: (F, S), see `StudyScores.network_shares`.

    Source: Banerjee, Sankhya 22 1960 (several variances, each with a t of its own).
    """
    num_groups, (num_folds, num_seeds) = len(by_group), by_network.shape
    if num_groups < fewest_groups(num_comparisons):
        return None
    quantile = 1 - ALPHA / (2 * num_comparisons)
    squared = student.ppf(quantile, num_groups - 1) ** 2 * by_group.var(ddof=1) / num_groups
    if num_seeds > 1:
        luck = by_network.var(axis=1, ddof=1).sum() / num_seeds
        squared += student.ppf(quantile, num_folds * (num_seeds - 1)) ** 2 * luck
    mean, half = float(by_group.mean()), math.sqrt(squared)
    return mean - half, mean + half


def fewest_groups(num_comparisons: int) -> int:
    """Groups that an interval for so many comparisons needs: m 2^(1 - G) <= 0.05.

    With fewer, a test that does not take the differences for normal could find nothing, even if all groups agreed; an
    interval would rest on that assumption alone.

    >>> [fewest_groups(number) for number in (1, 5, 8)]
    [6, 8, 9]
    """
    return math.ceil(1 + math.log2(num_comparisons / ALPHA))


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def _read_entries(
    rows: Iterable[Mapping[str, Any]], score: str
) -> tuple[dict[tuple[str, str, str, str], float], dict[str, str]]:
    """Score of each (arm, seed, fold, image), and group of each image."""
    entries: dict[tuple[str, str, str, str], float] = {}
    groups: dict[str, str] = {}
    for row in rows:
        lacking = [key for key in (*KEYS, score) if key not in row]
        if lacking:
            raise UserError(f'a row has no column {", ".join(lacking)}; it has {", ".join(map(str, row))}')
        arm, fold, seed, group, image = (str(row[key]) for key in KEYS)
        if groups.setdefault(image, group) != group:
            raise UserError(f"image '{image}' is in the groups '{groups[image]}' and '{group}'; an image has one group")
        if (arm, seed, fold, image) in entries:
            raise UserError(f"arm '{arm}' has image '{image}' twice in fold {fold}, seed {seed}; give each row once")
        entries[arm, seed, fold, image] = _number(row[score], score, image)
    if not entries:
        raise UserError('the table of scores is empty; give one row for each arm, fold, seed and image')
    return entries, groups


def _number(entry: Any, score: str, image: str) -> float:
    try:
        value = math.nan if entry in ('', None) else float(entry)
    except (TypeError, ValueError):
        value = math.inf
    if math.isinf(value):
        raise UserError(f"{score} of image '{image}' is {entry!r}; give a finite number, or nothing where it has none")
    return value


def _check_complete(
    entries: Mapping[tuple[str, str, str, str], float],
    arms: tuple[str, ...],
    seeds: tuple[str, ...],
    items: list[tuple[str, str]],
) -> None:
    present = {key[:3] for key in entries}
    for arm in arms:
        for seed in seeds:
            for fold, image in items:
                if (arm, seed, fold) not in present:
                    raise UserError(f"arm '{arm}' has no fold {fold}, seed {seed}; run it, all arms need the same ones")
                if (arm, seed, fold, image) not in entries:
                    raise UserError(
                        f"arm '{arm}' has no score of image '{image}' in fold {fold}, seed {seed}; test all images"
                    )
