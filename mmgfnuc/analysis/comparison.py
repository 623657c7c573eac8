"""Tables that compare the arms of a study, made from records."""

from collections.abc import Mapping
from statistics import mean
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.studies.markdown import table_lines

from .tables import INSTANCE_COLUMNS, MAIN_SCORES, has_instances, instance_section, range_cell, report_of

Record = Mapping[str, Any]
RULE = (
    'Arms have equal steps, seeds and images; the last checkpoint is scored. Differences are those of '
    "the per-image {scores} to the first row's, seed by seed. They are called a gain, or a loss, only where they have "
    'one sign in every seed and on every held-out organ: a description of these runs, not a test of significance.'
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


def differences(record: Record, baseline: Record, score: str) -> tuple[list[float], dict[str, list[float]]]:
    """A score of a record less that of its baseline: of each seed, and of each seed for each group.

    Args:
        record: of an arm.
        baseline: record that it is compared with.
        score: its key, `dice` or, where both records have instance scores, `aji` or `pq`.

    Raises:
        UserError: the two do not have the same seeds, steps and images.
    """
    for key in ('steps', 'data'):
        if record[key] != baseline[key]:
            raise UserError(f'arms differ in {key}: {record[key]} and {baseline[key]}; compare like with like')
    own, other = ({run['seed']: report_of(run, score) for run in arm['runs']} for arm in (record, baseline))
    if own.keys() != other.keys():
        raise UserError(f'arms differ in seeds: {sorted(own)} and {sorted(other)}; run the missing ones')
    seeds = sorted(own)
    by_group = {
        group: [own[seed]['groups'][group][score] - other[seed]['groups'][group][score] for seed in seeds]
        for group in record['data']['groups']
    }
    return [own[seed][score] - other[seed][score] for seed in seeds], by_group


def verdict(by_seed: list[float], by_group: Mapping[str, list[float]]) -> str:
    """Say `gain` or `loss` where all differences have one sign, else `no clear difference`."""
    values = [*by_seed, *(value for group in by_group.values() for value in group)]
    if all(value > 0 for value in values):
        return 'gain'
    return 'loss' if all(value < 0 for value in values) else 'no clear difference'


def comparison_table(records: Mapping[str, Record], baseline: str, arms: list[str]) -> str:
    """Render one comparison: its tables, then the rule, the conditions, the commands.

    A table has a row for the baseline and for each arm. There is one of Dice and, where all have instance scores, one
    of AJI, one of PQ, and one of all instance scores.
    """
    base, members = records[baseline], {name: records[name] for name in (baseline, *arms)}
    instances = all(has_instances(record) for record in members.values())
    scores = MAIN_SCORES if instances else ('dice',)
    titles = ', '.join(INSTANCE_COLUMNS[score] for score in scores)
    parts = [
        f'**{base["title"]}**',
        *(_score_table(members, score) for score in scores),
        f'{RULE.format(scores=titles)} {_seeds(base)} {base["steps"]} steps, '
        f'{base["data"]["images"]} images, {base["hardware"]}. Otsu threshold{" (Dice)" if instances else ""}: '
        f'{base["otsu"]["dice"]:.3f}.',
        *([instance_section(members)] if instances else []),
        *([base['remark']] if base['remark'] else []),
        '\n'.join(['```', *(command for record in members.values() for command in record['commands']), '```']),
    ]
    return '\n\n'.join(parts)


def _score_table(members: Mapping[str, Record], score: str) -> str:
    """Render one score; the first member is the baseline."""
    (baseline, base), *arms = members.items()
    title, groups = INSTANCE_COLUMNS[score], base['data']['groups']
    heading = ['arm', title, f'pooled {title}', 'difference', *(f'on {group}' for group in groups), '']
    rows = [[*_scores(baseline, base, score), *[''] * (len(groups) + 2)]]
    for name, record in arms:
        by_seed, by_group = differences(record, base, score)
        cells = [_signed(by_seed), *(f'{mean(by_group[group]):+.3f}' for group in groups), verdict(by_seed, by_group)]
        rows.append([*_scores(name, record, score), *cells])
    return table_lines(heading, rows)


def _scores(name: str, record: Record, score: str) -> list[str]:
    reports = [report_of(run, score) for run in record['runs']]
    return [f'`{name}`', *(range_cell([report[key] for report in reports]) for key in (score, f'{score}_pooled'))]


def _seeds(record: Record) -> str:
    seeds = [str(run['seed']) for run in record['runs']]
    return f'Seed {seeds[0]}.' if len(seeds) == 1 else f'Seeds {", ".join(seeds)}; the range over them in brackets.'


def _signed(values: list[float]) -> str:
    text = f'{mean(values):+.3f}'
    return text if len(values) == 1 else f'{text} ({min(values):+.3f} to {max(values):+.3f})'
