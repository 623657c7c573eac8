"""Does an arm differ from another, by how much, and how sure is that? Tests and intervals over groups."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata, t, wilcoxon

from mmgfnuc.errors import UserError

from .statistics import ALPHA, DECIMALS, Floats, StudyScores

LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """An arm against its baseline, over groups.

    `by_group` holds the difference of each group, `mean_difference` is their mean. `p` is that of the Wilcoxon test,
    `p_holm` the same corrected for all comparisons, `smallest_p` the smallest that `p_holm` can become with so many
    groups and comparisons. `corrected_interval` is the interval of the mean that the verdict uses, see
    `simultaneous_interval`. Intervals are None where there is only one group.
    """

    arm: str
    baseline: str
    by_group: Mapping[str, float]
    mean_difference: float
    interval: tuple[float, float] | None
    corrected_interval: tuple[float, float] | None
    rank_biserial: float
    rank_biserial_interval: tuple[float, float] | None
    p: float
    p_holm: float
    smallest_p: float
    num_comparisons: int
    num_seeds: int

    @property
    def significant(self) -> bool:
        """Whether the corrected p is at most 0.05 and the corrected interval excludes 0; see `compare` for why."""
        ends = self.corrected_interval
        return self.p_holm <= ALPHA and ends is not None and not ends[0] <= 0 <= ends[1]

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
        corrected = f', Holm-corrected for {self.num_comparisons} comparisons' if self.num_comparisons > 1 else ''
        luck = ' With one seed, the luck of the training runs is not in these figures.' if self.num_seeds == 1 else ''
        return (
            f'{self.arm}: {title} {self.mean_difference:+.3f} against {self.baseline} ({spread}), '
            f'better in {better} of {groups}, rank-biserial r {self.rank_biserial:+.2f}, '
            f'{_p_text(self.p_holm)} (Wilcoxon over groups{corrected}): {self._verdict()}.{luck}'
        )

    def _verdict(self) -> str:
        if self.significant:
            return 'a significant gain' if self.mean_difference > 0 else 'a significant loss'
        if self.smallest_p > ALPHA:
            groups, number = _count(len(self.by_group), 'group'), _count(self.num_comparisons, 'comparison')
            return (
                f'no significant difference; with {groups} and {number} the smallest p that can occur is '
                f'{self.smallest_p:.3g}, so none could be found'
            )
        if self.p_holm <= ALPHA:
            number, seeds = _count(self.num_comparisons, 'comparison'), _count(self.num_seeds, 'seed')
            return (
                'no significant difference; the groups agree, but the interval of the mean, corrected for '
                f'{number} and {seeds}, includes 0'
            )
        return 'no significant difference'


def compare(
    scores: StudyScores, baseline: str | Sequence[tuple[str, str]], resamples: int = 5000, seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare arms with their baselines, by paired differences of group means.

    The Wilcoxon test takes groups as independent. But the groups of a fold are scored by the same networks and share
    their luck of training, so that alone the test would find differences too often. A difference is therefore called
    significant only where an interval that holds this luck, as far as the seeds show it, excludes 0 too. Both parts of
    the verdict are corrected for the number of comparisons, the test by Holm, the interval by Bonferroni. The intervals
    that are shown are not corrected: each is the 95 % interval of one comparison.

    Args:
        scores: of all arms.
        baseline: the arm that every other one is compared with, or pairs of an arm and its own baseline.
        resamples: of the bootstrap intervals.
        seed: of the bootstrap; the same seed gives the same intervals.

    Raises:
        UserError: an arm is not there, or nothing is left to compare.
    """
    if isinstance(baseline, str):
        scores.index(baseline)
        baseline = [(arm, baseline) for arm in scores.arms if arm != baseline]
    if not baseline:
        raise UserError('there is only one arm; give at least one to compare with it')
    pairs = [(scores.index(arm), scores.index(other)) for arm, other in baseline]
    means = scores.group_means()
    differences = [np.round(means[arm] - means[other], DECIMALS) for arm, other in pairs]
    p_values = [wilcoxon_p(row) for row in differences]
    corrected = holm(p_values)
    num_groups = len(scores.groups)
    smallest_p = min(1.0, len(pairs) * smallest_wilcoxon_p(num_groups))
    comparisons = []
    for (arm, other), row, p, p_holm in zip(pairs, differences, p_values, corrected, strict=True):
        by_image = scores.values[arm] - scores.values[other]
        drawn = scores.resampled_group_means(by_image, resamples, seed)
        comparisons.append(
            Comparison(
                arm=scores.arms[arm],
                baseline=scores.arms[other],
                by_group=dict(zip(scores.groups, row.tolist(), strict=True)),
                mean_difference=float(row.mean()),
                interval=percentile_interval(drawn.mean(axis=1), num_groups),
                corrected_interval=simultaneous_interval(row, _by_network(scores, by_image), len(pairs)),
                rank_biserial=float(rank_biserial(row)),
                rank_biserial_interval=percentile_interval(rank_biserial(drawn), num_groups),
                p=p,
                p_holm=p_holm,
                smallest_p=smallest_p,
                num_comparisons=len(pairs),
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

    Source: Kerby, Comprehensive Psychology 3 2014.

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

    Source: Holm, Scand. J. Statist. 6(2) 1979.

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

    Source: Hesterberg, The American Statistician 69(4) 2015, section 4.2 (expanded percentile interval).
    """
    if num_groups < 2:
        return None
    tail = norm.cdf(-math.sqrt(num_groups / (num_groups - 1)) * t.ppf((1 + LEVEL) / 2, num_groups - 1))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def simultaneous_interval(by_group: Floats, by_network: Floats, num_comparisons: int) -> tuple[float, float] | None:
    """Interval of the mean over groups that is right for all comparisons together; None for fewer than two groups.

    The mean varies with the groups, V_g = variance over G groups / G, and with the networks, V_n = sum over F folds of
    (variance over S seeds / S) of what they add to it. The interval is the mean -+ sqrt(t_g^2 V_g + t_n^2 V_n), t_g and
    t_n being the 1 - 0.05 / (2 m) quantiles of Student's t for m comparisons, with G - 1 and F (S - 1) degrees of
    freedom. If both are normal, it holds the true value with probability 1 - 0.05 / m at least, whatever their shares.

    Percentiles of the bootstrap do not reach so far: two seeds in each of three folds have only 27 different draws, and
    a variance of few degrees of freedom is often far too small by chance. One seed shows no V_n.

    Shape:
        - by_group: (G,), differences of the groups.
        - by_network: (F, S), summed over folds and averaged over seeds it is the mean of the differences.

    Source: Banerjee, Sankhya 22 1960 (several variances, each with a t of its own).
    """
    num_groups, (num_folds, num_seeds) = len(by_group), by_network.shape
    if num_groups < 2:
        return None
    quantile = 1 - ALPHA / (2 * num_comparisons)
    squared = t.ppf(quantile, num_groups - 1) ** 2 * by_group.var(ddof=1) / num_groups
    if num_seeds > 1:
        luck = by_network.var(axis=1, ddof=1).sum() / num_seeds
        squared += t.ppf(quantile, num_folds * (num_seeds - 1)) ** 2 * luck
    mean, half = float(by_group.mean()), math.sqrt(squared)
    return mean - half, mean + half


def _by_network(scores: StudyScores, by_image: Floats) -> Floats:
    """Share of each fold and seed in the mean over groups: (I, S) to (F, S)."""
    weights = 1 / (np.bincount(scores.group_of)[scores.group_of] * len(scores.groups))
    sums = np.zeros((len(scores.folds), len(scores.seeds)))
    np.add.at(sums, scores.fold_of, weights[:, None] * by_image)
    return sums


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def _p_text(p: float) -> str:
    return 'p < 0.001' if p < 0.001 else f'p = {p:.3f}'
