"""The report of an inspection as text."""

from collections.abc import Iterator, Sequence

from .faults import SEVERITIES, Fault
from .measure import ClassNumbers, Numbers, Triple
from .report import Report

SHOWN_CASES = 5
SHOWN_ROWS = 41
INDENT = '  '
DIAMETER_NOTE = 'diameter: median (5th to 95th percentile) of the disc of equal area, of nuclei that no image edge cuts'

ReportTable = tuple[str, Sequence[str], Sequence[Sequence[str]]]


def report_text(report: Report) -> str:
    """Numbers as tables, then the faults and what to do about each."""
    head = [f'{report.name} ({report.root})', *(f'{INDENT}{key:<9} {value}' for key, value in facts(report).items())]
    blocks = [head, *map(_table_lines, report_tables(report)), *_fault_blocks(report), [verdict(report)]]
    return '\n\n'.join(map('\n'.join, blocks))


def facts(report: Report) -> dict[str, str]:
    """Say where a data set comes from, and of its images size, pixel size and nuclei."""
    words = {key: getattr(report, key) or 'not stated' for key in ('licence', 'citation', 'source')}
    words['classes'] = ', '.join(report.classes)
    if total := report.total:
        low, median, mean, high = total.nuclei_per_image
        words['size'] = f'{_range(total.heights)} x {_range(total.widths)} pixels (height x width)'
        words['mpp'] = _pixel_sizes(total.mpp)
        words['per image'] = f'{low:,} to {high:,} nuclei, median {median:,.0f}, mean {mean:,.1f}'
        if total.ignored_share:
            words['ambiguous'] = f'{total.ignored_share:.1%} of the area'
    if unmeasured := report.images - len(report.measured):
        words['faulty'] = f'files of {unmeasured} of {report.images} images, not in the numbers'
    return words


def _pixel_sizes(mpp: Sequence[float | None]) -> str:
    known = [size for size in mpp if size is not None]
    words = [f'{size:g}' for size in known] if len(known) < 4 else [f'{known[0]:g} to {known[-1]:g}']
    words = [f'{" or ".join(words)} micrometres per pixel'] if known else []
    return ' or '.join([*words, *(['unknown'] if None in mpp else [])])


def _range(values: Triple) -> str:
    low, median, high = values
    return f'{low:.0f}' if low == high else f'{low:.0f} to {high:.0f} (median {median:.0f})'


def _table_lines(table: ReportTable) -> list[str]:
    caption, header, rows = table
    hidden = len(rows) - SHOWN_ROWS
    more = f'... and {hidden} more, see --json' if hidden > 0 else ''
    return [*align([header, *rows[:SHOWN_ROWS]]), *filter(None, [more, caption])]


def report_tables(report: Report) -> list[ReportTable]:
    """Numbers of the groups, types and splits of a data set; what it does not have is left out."""
    tables: list[ReportTable] = []
    if report.total:
        header = [
            'group',
            'images',
            'nuclei',
            'per image',
            'area %',
            'diameter px',
            'diameter um',
            'mean RGB',
            'std RGB',
        ]
        rows = [(name, *number_cells(numbers)) for name, numbers in [('all', report.total), *report.groups.items()]]
        tables.append((DIAMETER_NOTE, header, rows))
    if report.types:
        rows = [(name, *class_cells(numbers)) for name, numbers in report.types.items()]
        tables.append(('', ['class', 'nuclei', 'diameter px', 'diameter um'], rows))
    if report.splits:
        rows = [
            (name, ', '.join(f'{count:,} {part}' for part, count in parts.items()))
            for name, parts in report.splits.items()
        ]
        tables.append(('', ['split', 'images'], rows))
    return tables


def number_cells(numbers: Numbers) -> tuple[str, ...]:
    """Cells of a row on some images: images, nuclei, nuclei per image, area, diameters, colours."""
    nuclei, *sizes = class_cells(numbers)
    return (
        f'{numbers.images:,}',
        nuclei,
        f'{numbers.nuclei_per_image[2]:,.1f}',
        f'{100 * numbers.nucleus_share:.1f}',
        *sizes,
        ' '.join(f'{value:.0f}' for value in numbers.mean),
        ' '.join(f'{value:.0f}' for value in numbers.std),
    )


def class_cells(numbers: ClassNumbers) -> tuple[str, str, str]:
    """Cells of a row on some nuclei: how many, diameters in pixels and micrometres."""
    return f'{numbers.nuclei:,}', _spread(numbers.diameter_px), _spread(numbers.diameter_um)


def _spread(percentiles: Triple | None) -> str:
    if percentiles is None:
        return '-'
    return f'{percentiles[2]:.1f} ({percentiles[0]:.1f} to {percentiles[4]:.1f})'


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, the first column to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ['  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def _fault_blocks(report: Report) -> Iterator[list[str]]:
    for severity in SEVERITIES:
        faults = [fault for fault in report.faults if fault.severity == severity]
        if faults:
            yield [f'{severity}s', *(line for fault in faults for line in _fault_lines(fault))]


def _fault_lines(fault: Fault) -> Iterator[str]:
    yield f'{INDENT}{fault.count:,} x {fault.kind}'
    for case in fault.cases[:SHOWN_CASES]:
        yield f'{INDENT * 3}{case}'
    hidden = len(fault.cases) - SHOWN_CASES
    if hidden > 0:
        yield f'{INDENT * 3}... and {hidden:,} more'
    yield f'{INDENT * 2}fix: {fault.fix}'


def verdict(report: Report) -> str:
    """Count the kinds of faults, in one line."""
    counts = {severity: report.count(severity) for severity in SEVERITIES}
    if not any(counts.values()):
        return 'sound: no fault found'
    return 'found: ' + ', '.join(f'{count} {name}{"s" * (count != 1)}' for name, count in counts.items() if count)
