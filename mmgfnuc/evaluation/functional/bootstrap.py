"""Confidence intervals of scores over groups of images."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

from mmgfnuc.errors import UserError

Item = TypeVar('Item')


def bootstrap_interval(
    items: Sequence[Item],
    groups: Sequence[Hashable],
    statistic: Callable[[list[Item]], float],
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of a statistic of images, by the cluster bootstrap.

    Images of a slide, a patient or an organ resemble each other: each resample draws whole groups, with replacement, as
    many as there are, and takes all images of each; a group drawn twice counts twice. The interval runs between the
    percentiles (1 - level) / 2 and (1 + level) / 2 of the statistic over resamples, interpolated linearly. The same
    seed gives the same interval.

    Resamples whose statistic is NaN are left out. With fewer than two groups, or if no resample is left, the
    interval is (NaN, NaN). With few groups the interval is too narrow; below about ten, say how many there are.

    Args:
        items: one for each image: its score, or its counts where the statistic pools them.
        groups: of the images, in the same order.
        statistic: of the items of a resample.
        level: of confidence, between 0 and 1.
        resamples: to draw.
        seed: of the draws.

    Raises:
        UserError: items and groups differ in number.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval); Field and
    Welsh, J. R. Statist. Soc. B 69(3) 2007 (resampling of clusters).

    Examples:
        >>> low, high = bootstrap_interval([0.5, 0.6, 0.7, 0.8], ['a', 'a', 'b', 'c'], np.mean)
        >>> round(low, 2), round(high, 2)
        (0.55, 0.8)

    """
    if len(items) != len(groups):
        raise UserError(f'{len(items)} items have {len(groups)} groups; give one group for each item')
    members: dict[Hashable, list[Item]] = {}
    for item, group in zip(items, groups, strict=True):
        members.setdefault(group, []).append(item)
    clusters = list(members.values())
    if len(clusters) < 2:
        return math.nan, math.nan
    draws = np.random.default_rng(seed).integers(len(clusters), size=(resamples, len(clusters)))
    values = np.array([statistic([item for drawn in draw for item in clusters[drawn]]) for draw in draws])
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
