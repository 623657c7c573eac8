"""Statistics of a study: does an arm differ from the baseline, by how much, and how sure is that?

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
from scipy.stats import norm, rankdata, t, wilcoxon

from mmgfnuc.errors import UserError

Floats = npt.NDArray[np.float64]
ALPHA = 0.05
LEVEL = 0.95
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
        Rao and Wu, J. Amer. Statist. Assoc. 83(401) 1988 (stretched deviations); code: own.
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


@dataclass(frozen=True)
class Comparison:
    """An arm against the baseline, over groups.

    `by_group` holds the difference of each group, `mean_difference` is their mean. `p` is that of the Wilcoxon test,
    `p_holm` the same corrected for all arms compared, `smallest_p` the smallest that `p_holm` can become with so many
    groups and arms. Intervals are None where there is only one group.
    """

    arm: str
    baseline: str
    by_group: Mapping[str, float]
    mean_difference: float
    interval: tuple[float, float] | None
    rank_biserial: float
    rank_biserial_interval: tuple[float, float] | None
    p: float
    p_holm: float
    smallest_p: float
    num_arms: int
    num_seeds: int

    @property
    def significant(self) -> bool:
        """Whether the corrected p is at most 0.05 and the interval of the mean excludes 0; see `compare` for why."""
        return self.p_holm <= ALPHA and self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    def in_words(self, title: str) -> str:
        """Say the result in a sentence.

        Args:
            title: name of the score, such as `Dice`.
        """
        better = sum(difference > 0 for difference in self.by_group.values())
        groups, ends = _count(len(self.by_group), 'group'), self.interval
        spread = f'{LEVEL:.0%} interval {ends[0]:+.3f} to {ends[1]:+.3f}' if ends else 'no interval'
        if ends and smallest_wilcoxon_p(len(self.by_group)) > ALPHA:
            spread += f', too narrow with {groups}'
        arms = f', Holm-corrected for {self.num_arms} arms' if self.num_arms > 1 else ''
        luck = ' With one seed, the luck of the training runs is not in these figures.' if self.num_seeds == 1 else ''
        return (
            f'{self.arm}: {title} {self.mean_difference:+.3f} against {self.baseline} ({spread}), '
            f'better in {better} of {groups}, rank-biserial r {self.rank_biserial:+.2f}, '
            f'{_p_text(self.p_holm)} (Wilcoxon over groups{arms}): {self._verdict()}.{luck}'
        )

    def _verdict(self) -> str:
        if self.significant:
            return 'a significant gain' if self.mean_difference > 0 else 'a significant loss'
        if self.smallest_p > ALPHA:
            groups, arms = _count(len(self.by_group), 'group'), _count(self.num_arms, 'arm')
            return (
                f'no significant difference; with {groups} and {arms} compared the smallest p that can occur is '
                f'{self.smallest_p:.3g}, so none could be found'
            )
        if self.p_holm <= ALPHA:
            return 'no significant difference; the groups agree, but the interval of the mean includes 0'
        return 'no significant difference'


def compare(scores: StudyScores, baseline: str, resamples: int = 5000, seed: int = 0) -> tuple[Comparison, ...]:
    """Compare every other arm with the baseline, by paired differences of group means.

    The Wilcoxon test takes groups as independent. But the groups of a fold are scored by the same networks and share
    their luck of training, so that alone the test would find differences too often. The interval holds this luck, as
    far as the seeds show it: a difference is called significant only where the interval excludes 0 too. The
    intervals are not corrected for the number of arms.

    Args:
        scores: of all arms.
        baseline: arm that the others are compared with.
        resamples: of the bootstrap intervals.
        seed: of the bootstrap; the same seed gives the same intervals.

    Raises:
        UserError: the baseline is not there, or no other arm.
    """
    base = scores.index(baseline)
    others = [index for index in range(len(scores.arms)) if index != base]
    if not others:
        raise UserError(f"'{baseline}' is the only arm; give at least one to compare with it")
    means = scores.group_means()
    differences = np.round(means[others] - means[base], DECIMALS)
    p_values = [wilcoxon_p(row) for row in differences]
    corrected = holm(p_values)
    num_groups = len(scores.groups)
    smallest_p = min(1.0, len(others) * smallest_wilcoxon_p(num_groups))
    comparisons = []
    for index, row, p, p_holm in zip(others, differences, p_values, corrected, strict=True):
        drawn = scores.resampled_group_means(scores.values[index] - scores.values[base], resamples, seed)
        comparisons.append(
            Comparison(
                arm=scores.arms[index],
                baseline=baseline,
                by_group=dict(zip(scores.groups, row.tolist(), strict=True)),
                mean_difference=float(row.mean()),
                interval=percentile_interval(drawn.mean(axis=1), num_groups),
                rank_biserial=float(rank_biserial(row)),
                rank_biserial_interval=percentile_interval(rank_biserial(drawn), num_groups),
                p=p,
                p_holm=p_holm,
                smallest_p=smallest_p,
                num_arms=len(others),
                num_seeds=len(scores.seeds),
            )
        )
    return tuple(comparisons)


def wilcoxon_p(differences: Floats) -> float:
    """Two-sided p of the Wilcoxon signed-rank test.

    Differences of zero are left out (Wilcoxon's own rule), equal ones share the mean of their ranks. The p is exact up
    to 50 differences, up to 13 where some are equal; beyond that it comes from the normal approximation. It is 1 where
    all differences are zero.

    Shape:
        - differences: (N,), one for each group.

    Source: Wilcoxon, Biometrics Bulletin 1(6) 1945; code: scipy.stats.wilcoxon.
    """
    nonzero = differences[differences != 0]
    return float(wilcoxon(nonzero).pvalue) if len(nonzero) else 1.0


def smallest_wilcoxon_p(num_groups: int) -> float:
    """Two-sided p where all groups differ in the same direction: no smaller one can occur, 2 / 2^N for N groups."""
    return 2.0 ** (1 - num_groups)


def rank_biserial(differences: Floats) -> Floats:
    """Matched-pairs rank-biserial correlation, the effect size of the Wilcoxon test.

    r = (W+ - W-) / (W+ + W-) with W+ the sum of the ranks of the positive and W- of the negative differences, ranked by
    size: 1 where all are positive, -1 where all are negative, 0 where they balance or all are zero. Zeros are left out.

    Shape:
        - differences: (..., N).
        - Output: (...).

    Source: Kerby, Comprehensive Psychology 3 2014; code: own.

    Examples:
        >>> float(rank_biserial(np.array([0.3, 0.2, -0.1, 0.0])))
        0.6666666666666666

    """
    sizes, zero = np.abs(differences), differences == 0
    # Zeros have the smallest ranks: taking their number off ranks the others alone.
    ranks = rankdata(sizes, axis=-1) - zero.sum(axis=-1, keepdims=True)
    count = (~zero).sum(axis=-1)
    return (np.sign(differences) * ranks).sum(axis=-1) / np.maximum(count * (count + 1) / 2, 1)


def holm(p_values: list[float]) -> list[float]:
    """Correct p-values for their number: p_(i) times (m - i + 1), smallest first, never falling, at most 1.

    Source: Holm, Scand. J. Statist. 6(2) 1979; code: own.

    Examples:
        >>> holm([0.03, 0.01, 0.5])
        [0.06, 0.03, 0.5]

    """
    order = np.argsort(p_values, kind='stable')
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    return [float(p) for p in corrected]


def percentile_interval(resampled: Floats, num_groups: int) -> tuple[float, float] | None:
    """95 % bootstrap interval, widened for few groups; None for fewer than two.

    The plain percentile interval of N groups is too narrow, by sqrt((N - 1) / N) and because it knows the normal where
    Student's t belongs. Its percentiles are therefore moved outwards to Phi(-sqrt(N / (N - 1)) t) and the mirrored one,
    t being the 0.975 quantile with N - 1 degrees of freedom. With fewer than six groups it is too narrow even so: it
    never leaves the range of the groups, and that holds the true value with probability 1 - 2 / 2^N at most.

    Shape:
        - resampled: (R,), the statistic of each resample.

    Source: Hesterberg, The American Statistician 69(4) 2015, section 4.2 (expanded percentile interval); code: own.
    """
    if num_groups < 2:
        return None
    tail = norm.cdf(-math.sqrt(num_groups / (num_groups - 1)) * t.ppf((1 + LEVEL) / 2, num_groups - 1))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


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


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def _p_text(p: float) -> str:
    return 'p < 0.001' if p < 0.001 else f'p = {p:.3f}'
