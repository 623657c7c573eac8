"""What studies concluded, for the pages that speak of results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgfnuc.files import read_json
from mmgfnuc.studies.markdown import fenced, prose

FOLDER = 'studies'


def read_studies(results: Path) -> dict[str, dict[str, Any]]:
    """Read the results of the studies that are kept beside the records, by their names.

    Args:
        results: folder of the records; those of a study are in `studies/<name>/`, as `tools/benchmark.py` writes them.
    """
    paths = sorted((results / FOLDER).glob('*/results.json'))
    fix = 'get the file of the repository again, or run the study'
    keys = dict(title=str, data_sets=list, study=dict, provenance=dict)
    return {path.parent.name: read_json(path, fix, **keys) for path in paths}


def study_section(name: str, study: Mapping[str, Any], prefix: str = '') -> str:
    """Say what a study concluded on each data set, how it was run, and where its report is.

    Args:
        name: of the study.
        study: its results.
        prefix: path from the page to the folder of the records.
    """
    folder = f'{prefix}{FOLDER}/{name}'
    lines = [
        f'**{prose(study["title"])}** ([numbers]({folder}/tables.md), [report with figures]({folder}/report.html))'
    ]
    for data_set in study['data_sets']:
        lines += [f'On {prose(data_set["data"])}:'] if len(study['data_sets']) > 1 else []
        lines.append('\n'.join(f'- {prose(sentence)}' for sentence in data_set['conclusion']))
    conditions, made = study['study'], study['provenance']
    lines.append(
        f'{conditions["steps"]} steps of {conditions["batch_size"]} images, seeds '
        f'{", ".join(map(str, conditions["seeds"]))}, folds {", ".join(conditions["splits"])}; '
        f'{"; ".join(made["hardware"])}. Commit {", ".join(made["commits"])}.'
    )
    lines.append(fenced(made['command']))
    return '\n\n'.join(lines)
