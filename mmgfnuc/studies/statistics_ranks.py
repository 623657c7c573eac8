"""Average ranks of the arms of a study over its groups, and what a critical-difference diagram shows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from mmgfnuc.errors import UserError

from .statistics import ALPHA, StudyScores


@dataclass(frozen=True)
class RankTable:
    """Average ranks, best first, and the sets of arms that are not told apart.

    Two arms differ significantly where their average ranks are at least `critical_difference` apart. `cliques` are the
    largest sets of neighbours in rank without such a pair, the bars of a critical-difference diagram; an arm that
    differs from all others is in none. Where `friedman_p` is above 0.05 nothing is told apart: one clique has all.
    """

    average_ranks: Mapping[str, float]
    num_groups: int
    friedman_p: float
    critical_difference: float
    cliques: tuple[tuple[str, ...], ...]


def rank_arms(scores: StudyScores) -> RankTable:
    """Rank the arms in every group (1 is the best, equal ones share the mean of their ranks) and average the ranks.

    The p of Friedman's test comes from the chi-square distribution, an approximation that is good from about ten groups
    and conservative below. The critical difference is Nemenyi's at 0.05. Both take groups as independent and do not
    know the luck of training that the groups of a fold share: they show an order, claims come from `compare`.

    Raises:
        UserError: fewer than three arms.

    Source: Demsar, J. Mach. Learn. Res. 7 2006, section 3.2.2; code: scipy.stats.friedmanchisquare, the rest own.
    """
    if len(scores.arms) < 3:
        raise UserError(f'{len(scores.arms)} arms; ranks need at least 3, compare two by their differences')
    means = scores.group_means()
    average = rankdata(-means, axis=0).mean(axis=1)
    order = np.argsort(average, kind='stable')
    ranks = {scores.arms[index]: float(average[index]) for index in order}
    # Where every group has all arms equal, Friedman's statistic is 0 / 0.
    friedman_p = float(friedmanchisquare(*means).pvalue) if np.ptp(means, axis=0).any() else 1.0
    difference = nemenyi_difference(len(scores.arms), len(scores.groups))
    found = cliques(ranks, difference) if friedman_p <= ALPHA else (tuple(ranks),)
    return RankTable(ranks, len(scores.groups), friedman_p, difference, found)


def nemenyi_difference(num_arms: int, num_groups: int) -> float:
    """Critical difference of average ranks at 0.05: q sqrt(k (k + 1) / (6 N)) for k arms and N groups.

    q is the 0.95 quantile of the Studentized range of k means with infinite degrees of freedom, divided by sqrt(2).

    Source: Nemenyi, Distribution-free multiple comparisons, 1963; Demsar, J. Mach. Learn. Res. 7 2006.
    """
    q = studentized_range.ppf(1 - ALPHA, num_arms, math.inf) / math.sqrt(2)
    return float(q * math.sqrt(num_arms * (num_arms + 1) / (6 * num_groups)))


def cliques(average_ranks: Mapping[str, float], difference: float) -> tuple[tuple[str, ...], ...]:
    """Largest sets of at least two arms, neighbours in rank, whose ranks span less than a difference.

    Args:
        average_ranks: of each arm, best first.
        difference: from which on two arms are told apart.

    Examples:
        >>> cliques({'a': 1.0, 'b': 1.5, 'c': 2.5, 'd': 4.0}, 1.2)
        (('a', 'b'), ('b', 'c'))

    """
    arms, ranks = list(average_ranks), np.array(list(average_ranks.values()))
    found: list[tuple[str, ...]] = []
    last_end = 0
    for start, rank in enumerate(ranks):
        end = int(np.searchsorted(ranks, rank + difference))
        # A set that ends where an earlier one ends lies within it.
        if end - start > 1 and end > last_end:
            found.append(tuple(arms[start:end]))
            last_end = end
    return tuple(found)
