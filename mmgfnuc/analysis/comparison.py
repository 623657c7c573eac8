"""Tables that compare the arms of a study, made from records."""

from collections.abc import Mapping
from statistics import mean
from typing import Any

from mmgfnuc.errors import UserError

from .tables import range_cell

Record = Mapping[str, Any]
RULE = (
    'Arms have equal steps, seeds and images; the last checkpoint is scored. Differences are those of '
    "the per-image Dice to the first row's, seed by seed. They are called a gain, or a loss, only where they have one "
    'sign in every seed and on every held-out organ: a description of these runs, not a test of significance.'
)


def comparisons(records: Mapping[str, Record]) -> dict[str, list[str]]:
    """Name of each baseline -> names of the records compared with it.

    Raises:
        UserError: a record names a baseline that is not there.
    """
    arms: dict[str, list[str]] = {}
    for name, record in records.items():
        baseline = record.get('baseline')
        if baseline is None:
            continue
        if baseline not in records:
            raise UserError(f"record '{name}' is compared with '{baseline}', which is not there; make that one too")
        arms.setdefault(baseline, []).append(name)
    return arms


def differences(record: Record, baseline: Record) -> tuple[list[float], dict[str, list[float]]]:
    """Dice of a record less that of its baseline: of each seed, and of each seed for each group.

    Raises:
        UserError: the two do not have the same seeds, steps and images.
    """
    for key in ('steps', 'data'):
        if record[key] != baseline[key]:
            raise UserError(f'arms differ in {key}: {record[key]} and {baseline[key]}; compare like with like')
    runs = {run['seed']: run['scores'] for run in record['runs']}
    others = {run['seed']: run['scores'] for run in baseline['runs']}
    if runs.keys() != others.keys():
        raise UserError(f'arms differ in seeds: {sorted(runs)} and {sorted(others)}; run the missing ones')

    def dices(*path: str) -> list[float]:
        values = []
        for seed in sorted(runs):
            own, other = runs[seed], others[seed]
            for key in path:
                own, other = own[key], other[key]
            values.append(own['dice'] - other['dice'])
        return values

    return dices(), {group: dices('groups', group) for group in record['data']['groups']}


def verdict(by_seed: list[float], by_group: Mapping[str, list[float]]) -> str:
    """Say `gain` or `loss` where all differences have one sign, else `no clear difference`."""
    values = [*by_seed, *(value for group in by_group.values() for value in group)]
    if all(value > 0 for value in values):
        return 'gain'
    return 'loss' if all(value < 0 for value in values) else 'no clear difference'


def comparison_table(records: Mapping[str, Record], baseline: str, arms: list[str]) -> str:
    """Render one comparison: a row for the baseline and for each arm, then the rule, the conditions, the commands."""
    base = records[baseline]
    groups = base['data']['groups']
    heading = ['arm', 'Dice', 'pooled Dice', 'difference', *(f'on {group}' for group in groups), '']
    rows = [heading, ['---'] * len(heading), [*_scores(baseline, base), *[''] * (len(groups) + 2)]]
    for name in arms:
        by_seed, by_group = differences(records[name], base)
        cells = [_signed(by_seed), *(f'{mean(by_group[group]):+.3f}' for group in groups), verdict(by_seed, by_group)]
        rows.append([*_scores(name, records[name]), *cells])
    seeds = ', '.join(str(run['seed']) for run in base['runs'])
    return '\n'.join(
        [
            f'**{base["title"]}**',
            '',
            *(f'| {" | ".join(row)} |' for row in rows),
            '',
            f'{RULE} Seeds {seeds}; the range over them in brackets. {base["steps"]} steps, '
            f'{base["data"]["images"]} images, {base["hardware"]}. Otsu threshold: {base["otsu"]["dice"]:.3f}.',
            '',
            *([base['remark'], ''] if base['remark'] else []),
            '```',
            *(command for name in (baseline, *arms) for command in records[name]['commands']),
            '```',
        ]
    )


def _scores(name: str, record: Record) -> list[str]:
    scores = [run['scores'] for run in record['runs']]
    return [f'`{name}`', *(range_cell([run[key] for run in scores]) for key in ('dice', 'dice_pooled'))]


def _signed(values: list[float]) -> str:
    text = f'{mean(values):+.3f}'
    return text if len(values) == 1 else f'{text} ({min(values):+.3f} to {max(values):+.3f})'
