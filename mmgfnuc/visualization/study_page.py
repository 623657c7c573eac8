"""What a study found, as one HTML file: tables, figures and pictures for a reviewer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .figures import Difference, calibration_plot, difference_plot, gate_plot, pareto_plot, score_plot
from .pages import Figure, Gallery, Section, Table, Words, fixed, render, signed

Data = Mapping[str, Any]

# Of the measures of `costs`: what the column is called, what it is multiplied with, and the decimals.
COSTS = {
    'parameters': ('Parameters\nmillions', 1e-6, 2),
    'trained': ('trained\nmillions', 1e-6, 2),
    'macs': ('Multiply-adds\nG a tile', 1e-9, 2),
    'token_stride': ('Token stride\npixels', 1, 0),
    'train_seconds': ('Training\nminutes', 1 / 60, 1),
    'train_mb': ('Training memory\nMB', 1, 0),
    'inference_ratio': ('Inference\n× first arm', 1, 2),
    'inference_seconds': ('Inference\nms a tile', 1000, 1),
    'inference_mb': ('Inference memory\nMB', 1, 0),
}


def study_page(
    results: Mapping[str, Any],
    galleries: Mapping[str, Sequence[Gallery]],
    scores: Mapping[str, str],
    compared: Mapping[str, str],
) -> str:
    """Render a finished study. What has nothing to show is left out.

    Args:
        results: of the study, see `study_results`.
        galleries: pictures of each data set, by its name; none of a data set that is not there.
        scores: name and title of every score.
        compared: of those that arms are compared by; Dice is among them.
    """
    data_sets = results['data_sets']
    return render(
        'study',
        results=results,
        parts=[(data, _sections(data, galleries.get(data['data'], ()), scores, compared)) for data in data_sets],
        conditions=_conditions(results, data_sets[0]['arms']),
    )


def _sections(
    data: Data, galleries: Sequence[Gallery], scores: Mapping[str, str], compared: Mapping[str, str]
) -> list[Section]:
    """Sections on one data set that have something to show, in the order of the report."""
    sections = [
        Section('Scores and costs', _leaderboard(data, scores, compared)),
        Section('Differences to the baseline', _differences(data['comparisons'], compared)),
        Section('Differences to the controls', _differences(data['controls'], compared)),
        Section('Spread over images', _images(data)),
        Section('Score against time', _trade_off(data)),
        Section('Scores of the groups', _groups(data, compared)),
        Section('Calibration', _calibration(data)),
        Section('Gates', _gates(data)),
        Section('Pictures', galleries),
    ]
    return [section for section in sections if section.blocks]


def _leaderboard(data: Data, scores: Mapping[str, str], compared: Mapping[str, str]) -> list[Table]:
    """Arms with the best Dice first, then those that diverged."""
    arms = sorted(data['arms'], key=lambda arm: arm['scores']['dice']['mean'], reverse=True)
    rows = [
        [
            arm['name'] + ('\ncontrol' if arm['is_control'] else ''),
            *(_with_interval(arm['scores'][score]) for score in compared),
            *(_cost(arm['costs'][key], factor, digits) for key, (_, factor, digits) in COSTS.items()),
        ]
        for arm in arms
    ]
    rows += [[name, *['diverged'] * len(compared), *[''] * len(COSTS)] for name in data['diverged']]
    every = [[arm['name'], *(fixed(arm['scores'][score]['mean']) for score in scores)] for arm in arms]
    return [
        Table(
            'Means over groups with their 95 % intervals, and costs; the best Dice first',
            ['Arm', *compared.values(), *(title for title, *_ in COSTS.values())],
            rows,
        ),
        Table('All scores, means over groups', ['Arm', *scores.values()], every),
    ]


def _with_interval(score: Mapping[str, Any]) -> str:
    interval = score['interval']
    return fixed(score['mean']) + (f'\n{fixed(interval[0])} to {fixed(interval[1])}' if interval else '')


def _cost(amount: float | None, factor: float, digits: int) -> str:
    return fixed(None if amount is None else amount * factor, digits)


def _differences(comparisons: Mapping[str, Sequence[Data]], compared: Mapping[str, str]) -> list[Figure | Words]:
    """Draw the comparisons of each score, and say them."""
    blocks: list[Figure | Words] = []
    for score, title in compared.items():
        if rows := comparisons[score]:
            drawn = [
                Difference(
                    f'{row["arm"]}\nagainst {row["baseline"]}',
                    row['mean_difference'],
                    row['interval'],
                    row['significant'],
                )
                for row in rows
            ]
            caption = f'{title}: mean differences over groups and their 95 % intervals. Filled points are significant.'
            blocks.append(Figure(difference_plot(drawn, f'difference of {title}'), caption))
            blocks.append(Words([(row['words'], row['significant']) for row in rows]))
    return blocks


def _images(data: Data) -> list[Figure]:
    scores = {arm['name']: arm['images']['dice'] for arm in data['arms']}
    caption = (
        'Dice of single images, averaged over seeds: median, quartiles, smallest and largest. The spread is that of '
        'the images and says nothing of how sure a difference is.'
    )
    return [Figure(score_plot(scores, 'Dice of an image'), caption)] if all(scores.values()) else []


def _trade_off(data: Data) -> list[Figure]:
    points = {arm['name']: (arm['costs']['inference_ratio'], arm['scores']['dice']['mean']) for arm in data['arms']}
    caption = (
        'Dice against the time that a tile takes, as the median ratio to the first arm, timed by turns. No arm is both '
        'faster and better than one on the line.'
    )
    label = 'time of a tile, in times of the first arm'
    return [Figure(pareto_plot(points, label, 'Dice'), caption)] if len(points) > 1 else []


def _groups(data: Data, compared: Mapping[str, str]) -> list[Table]:
    """Mean of each group and arm, and its difference to the baseline of the arm."""
    tables = []
    for score, title in compared.items() if len(data['groups']) > 1 else ():
        differences = {row['arm']: row['by_group'] for row in data['comparisons'][score]}
        rows = [
            [group, *(_of_group(arm, score, group, differences) for arm in data['arms'])] for group in data['groups']
        ]
        caption = f"Mean {title} of each group, and below it the difference to the arm's baseline"
        tables.append(Table(caption, ['Group', *(arm['name'] for arm in data['arms'])], rows))
    return tables


def _of_group(arm: Data, score: str, group: str, differences: Mapping[str, Mapping[str, float]]) -> str:
    difference = differences.get(arm['name'], {}).get(group)
    return fixed(arm['groups'][score].get(group)) + ('' if difference is None else f'\n{signed(difference)}')


def _calibration(data: Data) -> list[Figure | Table]:
    arms = [arm for arm in data['arms'] if arm['calibration']['bins']]
    if not arms:
        return []
    curves = {
        arm['name']: [(part['confidence'], part['frequency'], part['count']) for part in arm['calibration']['bins']]
        for arm in arms
    }
    caption = (
        'Share of nucleus pixels among those that were given a probability. On the diagonal a model is as sure as it '
        'is right; below it, it is too sure of nuclei.'
    )
    rows = [[arm['name'], fixed(arm['calibration']['ece'], 4), fixed(arm['calibration']['brier'], 4)] for arm in arms]
    table = Table(
        'Calibration of the nucleus probability; lower is better', ['Arm', 'ECE\n15 bins', 'Brier score'], rows
    )
    return [Figure(calibration_plot(curves), caption), table]


def _gates(data: Data) -> list[Figure | Table]:
    gates = [(arm['name'], gate) for arm in data['arms'] for gate in arm['gates']]
    if not gates:
        return []
    histograms = {f'{name}, level {gate["level"]}': (gate['edges'], gate['counts']) for name, gate in gates}
    rows = [
        [name, str(gate['level']), fixed(gate['mean']), fixed(gate['std']), fixed(gate['entropy'])]
        for name, gate in gates
    ]
    header = ['Arm', 'Level', 'Mean gate', 'Deviation', 'Attention entropy\nshare of its maximum']
    caption = 'Gates and attention; an entropy of 1 means that the attention looks everywhere alike'
    drawn = Figure(
        gate_plot(histograms),
        'Values of the gates over test images. A gate that has one value everywhere selects nothing.',
    )
    return [drawn, Table(caption, header, rows)]


def _conditions(results: Mapping[str, Any], arms: Sequence[Data]) -> Table:
    """All that is needed to run a study again."""
    rows = {name.replace('_', ' '): value for name, value in {**results['study'], **results['provenance']}.items()}
    rows |= {f'arm {arm["name"]}': arm['parts'] or 'as the presets are' for arm in arms}
    return Table('What is needed to run the study again', [], [[name, _listed(value)] for name, value in rows.items()])


def _listed(value: Any) -> str:
    if isinstance(value, Mapping) and not any(isinstance(part, Mapping) for part in value.values()):
        return ', '.join(f'{name} {part}' for name, part in value.items())
    if isinstance(value, Mapping):
        return json.dumps(value)
    return ', '.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
