"""What docs/unlike.md shows of the warnings on images that a model was not made for."""

from collections.abc import Mapping, Sequence
from typing import Any

from records import Record, command_block

from mmgfnuc.studies.markdown import table_lines


def domain_section(records: Sequence[Record]) -> str:
    """Two tables of each record: false alarms on H&E, and warnings on other images."""
    return '\n\n'.join(_tables(record) for record in records)


def _tables(record: Record) -> str:
    like = [row for row in record['rows'] if not row['unlike']]
    unlike = [row for row in record['rows'] if row['unlike']]
    return '\n\n'.join(
        [
            table_lines(['H&E in focus', 'images', 'with a warning'], [_cells(row, 'warned') for row in like]),
            table_lines(
                ['other images', 'images', 'with a warning', 'that names the reason'],
                [_cells(row, 'warned', 'named') for row in unlike],
            ),
            command_block(record),
        ]
    )


def _cells(row: Mapping[str, Any], *shares: str) -> list[str]:
    return [row['images'], str(row['count']), *(f'{row[share]:.1%}' for share in shares)]
