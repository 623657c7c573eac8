"""What README.md and docs/results/README.md show of studies and of records of speed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from records import Record

from mmgfnuc.files import read_json
from mmgfnuc.visualization.markdown import code, fenced, prose, table_lines

FOLDER = 'studies'
# Score of a study -> heading of its column.
SCORES = {'dice': 'Dice', 'aji': 'AJI', 'pq': 'PQ'}


def read_studies(results: Path) -> dict[str, dict[str, Any]]:
    """Read the results of the studies that are kept in `studies/<name>/`, as `tools/benchmark.py` writes them."""
    paths = sorted((results / FOLDER).glob('*/results.json'))
    fix = 'get the file of the repository again, or run the study'
    keys = dict(title=str, data_sets=list, study=dict, provenance=dict)
    return {path.parent.name: read_json(path, fix, **keys) for path in paths}


def readme_section(studies: Mapping[str, Mapping[str, Any]]) -> str:
    """Scores of the arms of each study, what they say, and where its report is."""
    return '\n\n'.join(_scores(name, study) for name, study in studies.items())


def _scores(name: str, study: Mapping[str, Any]) -> str:
    lines = [_title(name, study, 'docs/results/')]
    for data_set in study['data_sets']:
        lines += [f'On {prose(data_set["data"])}:'] if len(study['data_sets']) > 1 else []
        arms = sorted(data_set['arms'], key=lambda arm: arm['scores']['dice']['mean'], reverse=True)
        rows = [[code(arm['name']), *(_score(arm['scores'][score]) for score in SCORES)] for arm in arms]
        lines += [table_lines(['arm', *SCORES.values()], rows), prose(data_set['conclusion'][0])]
    return '\n\n'.join(lines)


def _score(score: Mapping[str, Any]) -> str:
    ends = score['interval']
    return f'{score["mean"]:.3f}' + (f' ({ends[0]:.3f} to {ends[1]:.3f})' if ends else '')


def _title(name: str, study: Mapping[str, Any], prefix: str = '') -> str:
    folder = f'{prefix}{FOLDER}/{name}'
    return f'**{prose(study["title"])}** ([numbers]({folder}/tables.md), [report with figures]({folder}/report.html))'


def results_section(studies: Mapping[str, Mapping[str, Any]], records: Mapping[str, Record]) -> str:
    """Where each study is and what command made it; the same of each record of speed."""
    rows = [[f'[{name}.json]({name}.json)', record['title'], record['date']] for name, record in records.items()]
    return '\n\n'.join(
        [
            *(f'{_title(name, study)}\n\n{fenced(study["provenance"]["command"])}' for name, study in studies.items()),
            table_lines(['record', 'what was measured', 'date'], rows),
        ]
    )
