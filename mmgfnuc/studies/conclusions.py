"""What a study concludes on a data set, in sentences made from its numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .arms import SCHEDULE
from .storage import COMPARED

Found = Mapping[str, Any]
Arms = Mapping[str, Mapping[str, Any]]

# The score that is told in detail.
MAIN = 'dice'
WITHOUT = 'the same U-Net without'
# What a control takes away.
RANDOM_MEANING = 'what the encoder has learned counts'
MEANINGS = {
    'zero-context': 'what the encoder sees in the image counts',
    'shuffled-context-image': 'what the encoder sees in the image counts',
    'shuffled-context-spatial': 'where the encoder sees it counts',
    'zero': 'what the encoder sees in the image counts',
    'image': 'what the encoder sees in the image counts',
    'shuffled': 'where the encoder sees it counts',
}


def conclusions(data_set: Mapping[str, Any], study: Mapping[str, Any]) -> list[str]:
    """Say what fusion brings on a data set: the gain with its interval, for which groups, at what cost, and from what.

    Controls do not count as fusions here: the arm that they control names them.

    Args:
        data_set: of the results, all but its conclusion.
        study: conditions of the results.
    """
    arms = {arm['name']: arm for arm in data_set['arms']}
    gains = data_set['fusion_gains']
    fusions = {score: [found for found in gains[score] if not arms[found['arm']]['is_control']] for score in COMPARED}
    fused = {found['arm'] for found in gains[MAIN]}
    others = {
        score: [found for found in data_set['comparisons'][score] if found['arm'] not in fused] for score in COMPARED
    }
    lines = []
    if fusions[MAIN]:
        lines = _of_fusion(fusions, data_set['controls'][MAIN], arms)
    elif fused:
        lines = [_overall(gains[score], title, 'controls', WITHOUT) for score, title in COMPARED.items()]
    if others[MAIN]:
        first = f'the first arm, {others[MAIN][0]["baseline"]}'
        lines += [_overall(others[score], title, 'arms', first) for score, title in COMPARED.items()]
    if len(arms) == 1:
        (arm,) = arms.values()
        means = ', '.join(f'{title} {score_text(arm, score)}' for score, title in COMPARED.items())
        lines.append(f'One arm, {arm["name"]}, with nothing to compare it with: {means}.')
    return [*lines, _scope(data_set, study, arms), *filter(None, [study['remark']])]


def _of_fusion(gains: Mapping[str, Sequence[Found]], controls: Sequence[Found], arms: Arms) -> list[str]:
    main = gains[MAIN]
    best = max(main, key=lambda found: found['mean_difference'])
    told = [found for found in main if found['significant'] and found['mean_difference'] > 0] or [best]
    controlled = {found['arm'] for found in controls}
    return [
        _overall(main, COMPARED[MAIN], 'fusions', WITHOUT),
        *(_groups(found) for found in told if found['significant']),
        *(_cost(found, arms) for found in told),
        *(_control(found, arms) for found in controls),
        *(_uncontrolled(found) for found in told if found['significant'] and found['arm'] not in controlled),
        *(_overall(gains[score], title, 'fusions', WITHOUT) for score, title in COMPARED.items() if score != MAIN),
    ]


def _overall(founds: Sequence[Found], title: str, kind: str, against: str) -> str:
    """Name the arms that gain or lose for sure, or say that none does."""
    better = [found for found in founds if found['significant'] and found['mean_difference'] > 0]
    worse = [found for found in founds if found['significant'] and found['mean_difference'] < 0]
    start = f'{title} of {_count(len(founds), kind)} against {against}'
    sides = (('higher', better), ('lower', worse))
    parts = [f'{len(found)} significantly {side}: {_listed(found)}' for side, found in sides if found]
    if parts:
        return f'{start}: {"; ".join(parts)}.'
    best = max(founds, key=lambda found: found['mean_difference'])
    return f'{start}: {best["verdict"]}; the largest is that of {_listed([best])}.'


def _listed(founds: Sequence[Found]) -> str:
    return ', '.join(f'{found["arm"]} {found["evidence"]}' for found in founds)


def _groups(found: Found) -> str:
    differences = found['by_group']
    better = sum(difference > 0 for difference in differences.values())
    text = f'{found["arm"]} has the higher {COMPARED[MAIN]} in {better} of {_count(len(differences), "groups")}'
    high, low = (pick(differences, key=lambda group: differences[group]) for pick in (max, min))
    if differences[high] == differences[low]:
        return f'{text}.'
    largest, smallest = (f'{group} ({differences[group]:+.3f})' for group in (high, low))
    return f'{text}; the difference is largest in {largest}, smallest in {smallest}.'


def _cost(found: Found, arms: Arms) -> str:
    own, base = (arms[found[name]]['costs'] for name in ('arm', 'baseline'))
    parameters, trained = ((own[name] - base[name]) / 1e6 for name in ('parameters', 'trained'))
    # Both are ratios to the first arm, timed by turns.
    times = own['inference_ratio'] / base['inference_ratio']
    return (
        f'{found["arm"]} costs {times:.1f} times the inference time of {found["baseline"]}, '
        f'{own["macs"] / base["macs"]:.1f} times its multiply-adds, and {parameters:+.2f} M parameters, '
        f'{trained:+.2f} M of them trained.'
    )


def _control(found: Found, arms: Arms) -> str:
    """Say whether an arm is better than a control that has learned nothing, or does not see the image."""
    control = arms[found['baseline']]
    meaning = MEANINGS.get(control.get('control') or control['fusion'], RANDOM_MEANING)
    shown = meaning if found['significant'] and found['mean_difference'] > 0 else f'that {meaning} is not shown'
    return (
        f'{found["arm"]} against its control {control["name"]}: {COMPARED[MAIN]} {found["evidence"]}, '
        f'{found["verdict"]}; {shown}.'
    )


def _uncontrolled(found: Found) -> str:
    return f'No control of {found["arm"]} was run: that its gain comes from what the encoder sees is not shown.'


def _scope(data_set: Mapping[str, Any], study: Mapping[str, Any], arms: Arms) -> str:
    # Earlier records do not say that all arms had the default.
    alike = len({(arm.get('schedule', SCHEDULE), arm.get('lr')) for arm in arms.values()}) == 1
    rates = 'one learning rate for all arms' if alike else 'the learning rates and schedules that the arms name'
    images, groups = _count(data_set['num_images'], 'images'), _count(len(data_set['groups']), 'groups')
    text = (
        f'All this holds for {images} of {groups}, '
        f'{_count(len(study["seeds"]), "seeds")}, {steps_text(study, arms.values())} of '
        f'{_count(study["batch_size"], "images")} and {rates}.'
    )
    mixed = ' The runs differ in versions or hardware, which may be part of the differences.'
    return text + mixed * data_set['mixed']


def steps_text(study: Mapping[str, Any], arms: Iterable[Mapping[str, Any]]) -> str:
    """Say for how many steps the arms of a study are trained, each of which may name others than the study does."""
    steps = [(arm.get('changes') or {}).get('train_cfg.max_iters', study['steps']) for arm in arms]
    fewest, most = min(steps), max(steps)
    return _count(most, 'steps') if fewest == most else f'{fewest:,} to {most:,} steps'


def score_text(arm: Mapping[str, Any], score: str) -> str:
    """Mean of a score of an arm over groups, with its interval where there is one."""
    value, ends = arm['scores'][score]['mean'], arm['scores'][score]['interval']
    return f'{value:.3f} ({ends[0]:.3f} to {ends[1]:.3f})' if ends else f'{value:.3f}'


def _count(number: int, nouns: str) -> str:
    return f'{number:,} {nouns.removesuffix("s") if number == 1 else nouns}'
