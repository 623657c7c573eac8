"""What a chapter of a report concludes, in sentences made from its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmgfnuc.analysis.statistics import ALPHA

Found = Mapping[str, Any]


def conclusions(chapter: Mapping[str, Any], scores: Mapping[str, str], num_seeds: int) -> list[str]:
    """Say what fusion brings on a data set: the gain with its interval, for which groups, at what cost, and from what.

    Args:
        chapter: of the results, all but its conclusion.
        scores: that arms were compared by, and what to call them; the first one decides what is spoken of in detail.
        num_seeds: of the study.
    """
    arms = {arm['name']: arm for arm in chapter['arms']}
    main, *others = scores
    gains = chapter['fusion_gains'][main]
    if not gains:
        return [_best_arm(chapter, scores[main], main)]
    lines = [_overall(gains, scores[main])]
    best = max(gains, key=lambda found: found['mean_difference'])
    spoken_of = [found for found in gains if found['significant'] and found['mean_difference'] > 0] or [best]
    lines += [_groups(found, scores[main]) for found in spoken_of]
    lines += [_cost(found, arms) for found in spoken_of]
    lines += [_control(found, arms, scores[main]) for found in chapter['controls'][main]]
    lines += [_overall(chapter['fusion_gains'][score], scores[score]) for score in others]
    seeds = 'one seed' if num_seeds == 1 else f'{num_seeds} seeds'
    lines.append(f'All this holds for {chapter["num_images"]} images of {len(chapter["groups"])} groups and {seeds}.')
    return lines


def _best_arm(chapter: Mapping[str, Any], title: str, score: str) -> str:
    best = max(chapter['arms'], key=lambda arm: arm['scores'][score]['mean'])
    return (
        f'No arm has a fusion. The highest mean {title} is that of {best["name"]}, {best["scores"][score]["mean"]:.3f}.'
    )


def _overall(gains: Sequence[Found], title: str) -> str:
    """Name the arms that gain or lose for sure, or say that none does."""
    better = [found for found in gains if found['significant'] and found['mean_difference'] > 0]
    worse = [found for found in gains if found['significant'] and found['mean_difference'] < 0]
    count = f'{len(gains)} arms with fusion' if len(gains) > 1 else 'one arm with fusion'
    kinds = (('higher', better), ('lower', worse))
    parts = [f'{len(found)} significantly {kind}: {_listed(found)}' for kind, found in kinds if found]
    if parts:
        return f'{title} of {count} against the same U-Net without: {"; ".join(parts)}.'
    best = max(gains, key=lambda found: found['mean_difference'])
    few = f'; with {len(best["by_group"])} groups none could be found' if best['smallest_p'] > ALPHA else ''
    return (
        f'No fusion brings a significant gain in {title} over the same U-Net without ({count}{few}); the largest '
        f'difference is that of {_listed([best])}.'
    )


def _listed(founds: Sequence[Found]) -> str:
    return ', '.join(f'{found["arm"]} ({found["mean_difference"]:+.3f}{_interval(found)})' for found in founds)


def _interval(found: Found) -> str:
    return f', 95 % interval {found["interval"][0]:+.3f} to {found["interval"][1]:+.3f}' if found['interval'] else ''


def _groups(found: Found, title: str) -> str:
    order = sorted(found['by_group'], key=found['by_group'].get)
    better = sum(difference > 0 for difference in found['by_group'].values())
    named = [f'{group} ({found["by_group"][group]:+.3f})' for group in (order[-1], order[0])]
    text = f'{found["arm"]} has the higher {title} in {better} of {len(order)} groups'
    return f'{text}: it gains most in {named[0]}, least in {named[1]}.' if len(order) > 1 else f'{text}.'


def _cost(found: Found, arms: Mapping[str, Mapping[str, Any]]) -> str:
    own, base = (arms[found[name]]['costs'] for name in ('arm', 'baseline'))
    parameters, trained = ((own[name] - base[name]) / 1e6 for name in ('parameters', 'trained'))
    # Both are ratios to the first arm, timed by turns.
    times = own['inference_ratio'] / base['inference_ratio']
    return (
        f'{found["arm"]} costs {times:.1f} times the inference time of {found["baseline"]}, '
        f'{own["macs"] / base["macs"]:.1f} times its multiply-adds, and {parameters:.2f} M parameters more, '
        f'{trained:.2f} M of them trained.'
    )


def _control(found: Found, arms: Mapping[str, Mapping[str, Any]], title: str) -> str:
    """Say whether an arm is better than a control that has learned nothing, or does not see the image."""
    what = 'has learned' if arms[found['baseline']]['weights'] == 'random' else 'sees in the image'
    verdict = 'a significant difference' if found['significant'] else 'no significant difference'
    counts = found['significant'] and found['mean_difference'] > 0
    meaning = f'what the encoder {what} counts' if counts else f'that what the encoder {what} counts is not shown'
    return (
        f'{found["arm"]} against its control {found["baseline"]}: {title} {found["mean_difference"]:+.3f}'
        f'{_interval(found)}, {verdict}; {meaning}.'
    )
