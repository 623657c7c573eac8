"""Markdown tables made from records."""

import re
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from mmgfnuc.errors import UserError
from mmgfnuc.studies.markdown import table_lines

# Key of the metric -> heading. The last is what the paper's release computes, and close to pixel accuracy.
COLUMNS = {
    'dice': 'Dice',
    'iou': 'IoU',
    'miou': 'mIoU',
    'dice_pooled': 'pooled Dice',
    'weighted_f1': "weighted F1 (as in the paper's release)",
}
# The same for records with instance scores.
INSTANCE_COLUMNS = {
    'dice': 'Dice',
    'aji': 'AJI',
    'aji_plus': 'AJI+',
    'dq': 'DQ',
    'sq': 'SQ',
    'pq': 'PQ',
    'pq_pooled': 'pooled PQ',
    'f1_50': 'F1 at IoU 0.5',
    'detection_f1': 'detection F1',
}
MAIN_SCORES = ('dice', 'aji', 'pq')
LOSSES = ('missed', 'merged', 'split', 'invented')
MATCHED = 'Matched is an IoU above 0.5; what merges or is split counts as missed or invented too, unless it is matched.'
ENOUGH_GROUPS = 10
# Kind of picture -> alternative text, caption. Older records name no kind: theirs are contours.
CAPTIONS = {
    'contours': ('Contours of truth and prediction', 'Truth green, prediction yellow.'),
    'errors': (
        'Tissue, truth, prediction and errors side by side',
        'Colours on the right say what became of each nucleus: matched (IoU above 0.5), else merged with a neighbour, '
        'else split, else missed (true) or invented (predicted).',
    ),
}
LINKS = {
    r'arXiv:(\d{4}\.\d{4,5})': 'https://arxiv.org/abs/',
    r'doi:(10\.\d{4,}/[^\s,;:()]*[^\s,;:().])': 'https://doi.org/',
}


def linked(source: str) -> str:
    """Make links of arXiv numbers and DOIs."""
    for pattern, address in LINKS.items():
        source = re.sub(pattern, rf'[\g<0>]({address}\1)', source)
    return source


def range_cell(values: list[float], interval: Sequence[float] | None = None) -> str:
    """Mean over the runs, and in brackets their range where there are several, else the interval where there is one."""
    ends = interval if len(values) == 1 else (min(values), max(values))
    text = f'{mean(values):.3f}'
    return f'{text} ({ends[0]:.3f} to {ends[1]:.3f})' if ends else text


def has_instances(record: Mapping[str, Any]) -> bool:
    """Say whether a record has instance scores; all of its runs have, or none has."""
    return 'instances' in record['runs'][0]


def report_of(run: Mapping[str, Any], score: str) -> Mapping[str, Any]:
    """Give the report of a run that holds a score: that of its pixels, or that of its nuclei."""
    return run['scores'] if score in run['scores'] else run['instances']


def interval_cell(record: Mapping[str, Any], score: str) -> str:
    """Mean of a score over the runs of a record with instance scores, and their range or the interval over groups."""
    reports = [report_of(run, score) for run in record['runs']]
    return range_cell([report[score] for report in reports], reports[0]['intervals']['scores'][score])


def markdown_table(name: str, record: Mapping[str, Any]) -> str:
    """Render a record: title, scores of the model and of Otsu's threshold, and how they were obtained.

    Args:
        name: of the record.
        record: see `make_record`.
    """
    runs = record['runs']
    scores = [run['scores'] for run in runs]
    seeds = ', '.join(str(run['seed']) for run in runs)
    minutes = ', '.join(f'{run["train_minutes"]:.0f}' for run in runs)
    spread = ', '.join(f'{run["dice_std"]:.3f}' for run in scores)
    rows = [
        f'**{record["title"]}**',
        '',
        '| | ' + ' | '.join(COLUMNS.values()) + ' |',
        '|---' * (len(COLUMNS) + 1) + '|',
        f'| {name} | ' + ' | '.join(range_cell([run[key] for run in scores]) for key in COLUMNS) + ' |',
        '| Otsu threshold | ' + ' | '.join(range_cell([record['otsu'][key]]) for key in COLUMNS) + ' |',
        '',
        f'{record["data"]["images"]} images of {", ".join(record["data"]["groups"])}. Seed {seeds}, {record["steps"]} '
        f'steps, {minutes} minutes of training on {record["hardware"]}. Means over images, the deviation of the Dice '
        f'over images is {spread}. Foreground is the nuclei; pooled counts every pixel alike.',
        '',
        *([instance_section({name: record}), ''] if has_instances(record) else []),
        *([record['remark'], ''] if record['remark'] else []),
        '```',
        *record['commands'],
        '```',
    ]
    if record['picture']:
        rows += ['', picture(record)]
    return '\n'.join(rows)


def summary_table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Render one line for each record, its title and its main scores, then what must be known to judge them."""
    lines = ['| | Dice | pooled Dice | Otsu threshold, Dice |', '|---|---|---|---|']
    for name, record in records.items():
        scores = [run['scores'] for run in record['runs']]
        cells = [range_cell([run[key] for run in scores]) for key in ('dice', 'dice_pooled')]
        lines.append(f'| `{name}`: {record["title"]} | {" | ".join(cells)} | {record["otsu"]["dice"]:.3f} |')
    lines += ['', *(f'- `{name}`: {record["remark"]}' for name, record in records.items() if record['remark'])]
    return '\n'.join(lines)


def instance_section(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Render instance scores: one line for each record, what stands in brackets, and where nuclei are lost.

    Args:
        records: with instance scores, of the same images and seeds.
    """
    rows = [
        [f'`{name}`', *(interval_cell(record, score) for score in INSTANCE_COLUMNS)] for name, record in records.items()
    ]
    parts = [
        table_lines(['', *INSTANCE_COLUMNS.values()], rows),
        f'{_brackets(next(iter(records.values())))} {MATCHED}',
        '\n'.join(f'- `{name}`: {_losses(record)}' for name, record in records.items()),
    ]
    return '\n\n'.join(parts)


def _brackets(record: Mapping[str, Any]) -> str:
    if len(record['runs']) > 1:
        return 'In brackets the range over seeds.'
    groups = _num_groups(record)
    if groups == 1:
        return 'All images are of one group: there is no interval.'
    text = f'In brackets the {_level(record)} interval over {groups} groups of images, by bootstrap'
    return f'{text}.' if groups >= ENOUGH_GROUPS else f'{text}: with fewer than ten groups it is too narrow.'


def _level(record: Mapping[str, Any]) -> str:
    return f'{100 * record["runs"][0]["instances"]["intervals"]["level"]:g} %'


def _num_groups(record: Mapping[str, Any]) -> int:
    return record['runs'][0]['instances']['intervals']['groups']


def _losses(record: Mapping[str, Any]) -> str:
    true, predicted = _count(record, 'num_truth'), _count(record, 'num_predicted')
    missed, invented = _count(record, 'missed'), _count(record, 'invented')
    merged, split = _count(record, 'merged'), _count(record, 'split')
    means = ' Means over seeds.' if len(record['runs']) > 1 else ''
    return (
        f'of {true:,} true nuclei {true - missed:,} are matched and {missed:,} missed; of {predicted:,} predicted ones '
        f'{invented:,} are invented. Predicted nuclei that merge true ones: {merged:,}; true ones split: {split:,}.'
        f'{means}'
    )


def _count(record: Mapping[str, Any], key: str) -> int:
    return round(mean(run['instances'][key] for run in record['runs']))


def instance_summary(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Render one line for each record: its main scores, and the numbers of nuclei that were lost.

    Args:
        records: with instance scores, at least one.
    """
    heading = ['', *(INSTANCE_COLUMNS[score] for score in MAIN_SCORES), 'groups', 'true nuclei', *LOSSES]
    rows = [
        [
            f'`{name}`',
            *(interval_cell(record, score) for score in MAIN_SCORES),
            str(_num_groups(record)),
            *(f'{_count(record, key):,}' for key in ('num_truth', *LOSSES)),
        ]
        for name, record in records.items()
    ]
    return (
        f'{table_lines(heading, rows)}\n\n'
        f'In brackets the {_level(next(iter(records.values())))} interval over groups of images, by bootstrap, too '
        f'narrow with fewer than ten groups; of several seeds, their range, and mean numbers of nuclei. {MATCHED} '
        'Merged are predicted nuclei that merge true ones, split are true ones.'
    )


def picture(record: Mapping[str, Any], folder: str = '') -> str:
    """Render the picture of a record with its source.

    Args:
        record: one that has a picture.
        folder: of the records, as seen from the page; empty or ending with a slash.
    """
    data = record['data']
    text, caption = CAPTIONS[record.get('caption', 'contours')]
    return f'![{text}]({folder}{record["picture"]})\n\n{caption} Image: {data["citation"]}, {data["licence"]}.'


def replace_between(text: str, content: str, start: str = '<!-- results -->', end: str = '<!-- /results -->') -> str:
    """Put content between two marker lines.

    Raises:
        UserError: a marker is missing.
    """
    if start not in text or end not in text:
        raise UserError(f'the markers {start} and {end} are missing; put each on a line of its own')
    before, rest = text.split(start, 1)
    return f'{before}{start}\n{content}\n{end}{rest.split(end, 1)[1]}'
