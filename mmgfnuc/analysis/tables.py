"""Markdown tables made from records."""

import re
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from mmgfnuc.errors import UserError

# Key of the metric -> heading. The last is what the paper's release computes, and close to pixel accuracy.
COLUMNS = {
    'dice': 'Dice',
    'iou': 'IoU',
    'miou': 'mIoU',
    'dice_pooled': 'pooled Dice',
    'weighted_f1': "weighted F1 (as in the paper's release)",
}
LINKS = {
    r'arXiv:(\d{4}\.\d{4,5})': 'https://arxiv.org/abs/',
    r'doi:(10\.\d{4,}/[^\s,;:()]*[^\s,;:().])': 'https://doi.org/',
}


def table_lines(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table of finished cells."""
    lines = [heading, ['---'] * len(heading), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def linked(source: str) -> str:
    """Make links of arXiv numbers and DOIs."""
    for pattern, address in LINKS.items():
        source = re.sub(pattern, rf'[\g<0>]({address}\1)', source)
    return source


def range_cell(values: list[float]) -> str:
    """Mean over the runs, and their range where there are several."""
    text = f'{mean(values):.3f}'
    return text if len(values) == 1 else f'{text} ({min(values):.3f} to {max(values):.3f})'


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


def picture(record: Mapping[str, Any], folder: str = '') -> str:
    """Render the picture of a record with its source.

    Args:
        record: one that has a picture.
        folder: of the records, as seen from the page; empty or ending with a slash.
    """
    data = record['data']
    return (
        f'![Contours of truth and prediction]({folder}{record["picture"]})\n\n'
        f'Truth green, prediction yellow. Image: {data["citation"]}, {data["licence"]}.'
    )


def replace_between(text: str, content: str, start: str = '<!-- results -->', end: str = '<!-- /results -->') -> str:
    """Put content between two marker lines.

    Raises:
        UserError: a marker is missing.
    """
    if start not in text or end not in text:
        raise UserError(f'the markers {start} and {end} are missing; put each on a line of its own')
    before, rest = text.split(start, 1)
    return f'{before}{start}\n{content}\n{end}{rest.split(end, 1)[1]}'
