"""What docs/instances.md shows of post-processing: what it loses, its speed, and that of the instance scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from records import Record, command_block, conditions

from mmgfnuc.visualization.markdown import table_lines

# Key of a row of a post-processor -> heading.
POSTPROCESS_COLUMNS = {
    'speedup_vs_skimage': 'time of the plain recipe over its time',
    'pq': 'PQ',
    'pq_skimage': 'PQ of the plain recipe',
    'megapixels_per_s': 'megapixels per second',
    'nuclei_per_s': 'nuclei per second',
    'share_regions': 'of its time: foreground',
    'share_mark': 'markers',
    'share_divide': 'watershed',
}
LOSS_COLUMNS = {'aji': 'AJI', 'pq': 'PQ', 'false_negatives': 'false negatives', 'merged': 'merged', 'split': 'split'}
METRIC_ROWS = {
    'cost_vs_unique': 'time of AJI, AJI+, PQ and F1 over that of one sort of the pixels (`numpy.unique`)',
    'cost_vs_unique_large': 'the same on large maps',
    'cost_growth': 'time per pixel on large maps over that on small ones',
    'speedup_vs_loops': 'time of plain loops over nuclei, over ours; one run',
    'max_abs_diff': 'largest difference of AJI, AJI+ and PQ between the two',
    'ms': 'milliseconds',
    'ms_large': 'milliseconds on large maps',
}


def speed_sections(records: Sequence[Record]) -> str:
    """Render each record under its title: table, conditions, command.

    Args:
        records: of the kinds postprocess and instance_metrics.
    """
    return '\n\n'.join(
        '\n\n'.join(
            [
                f'### {record["title"]}',
                command_block(record),
                *(_post_processors(record) if record['kind'] == 'postprocess' else _metrics(record)),
                f'Medians of {record["settings"]["pairs"]} pairs of runs, in turn in one process: {conditions(record)}',
            ]
        )
        for record in records
    )


def lost_section(records: Sequence[Record]) -> str:
    """Render what is lost where a head makes no mistake, a table for each record.

    Args:
        records: of the kind perfect_maps.
    """
    return '\n\n'.join(
        f'{_lost_from(record)}\n\n'
        f'{table_lines(["head", *LOSS_COLUMNS.values()], [_lost_cells(row) for row in record["rows"]])}\n\n'
        f'{command_block(record)}'
        for record in records
    )


def _lost_from(record: Record) -> str:
    settings = record['settings']
    at = 'at their size' if settings['scale'] == 1 else f'at {settings["scale"]} of their size, interpolated'
    nuclei = record['rows'][0]['num_truth']
    return f'{nuclei:,} nuclei of {settings["images"]} images of {settings["data"]}, maps {at}:'


def _lost_cells(row: Mapping[str, Any]) -> list[str]:
    return [
        f'`{row["head"]}`',
        *(f'{row[key]:.3f}' if key in ('aji', 'pq') else f'{row[key]:,}' for key in LOSS_COLUMNS),
    ]


def _post_processors(record: Record) -> list[str]:
    rows = [
        [f'`{row["post_processor"]}`', *(_speed_cell(key, row[key]) for key in POSTPROCESS_COLUMNS)]
        for row in record['rows']
    ]
    return [
        table_lines(['post-processor', *POSTPROCESS_COLUMNS.values()], rows),
        'The plain recipe is that of scikit-image on the foreground alone. The maps are those of synthetic nuclei, '
        'blurred and with noise: PQ compares the post-processors on these, which is not a score on tissue.',
    ]


def _speed_cell(key: str, value: float) -> str:
    return f'{value:.0%}' if key.startswith('share') else f'{value:.3f}' if key.startswith('pq') else f'{value:,}'


def _metrics(record: Record) -> list[str]:
    settings, (row,) = record['settings'], record['rows']
    large = settings['size'] * settings['growth']
    return [
        table_lines(
            (f'{row["nuclei"]:,} nuclei', 'ratio, difference or time'),
            [[text, f'{row[key]:.2g}' if 'diff' in key else f'{row[key]:,}'] for key, text in METRIC_ROWS.items()],
        ),
        f'Prediction and truth are ellipses; in the prediction some are left out, joined or doubled. Large maps have '
        f'{large}x{large} pixels and as many nuclei to the pixel.',
    ]
