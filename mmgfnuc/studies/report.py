"""Writes what a study found: a table of scores, the results as JSON, a report as Markdown and one as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmgfnuc.files import read_csv, read_json, remove_unfinished, waiting_lock, write_csv, write_json, write_text
from mmgfnuc.visualization.pages import Gallery
from mmgfnuc.visualization.study_page import study_page

from .costs import KnownCosts
from .identity import PICTURED, code_digest, digest_of
from .markdown import markdown_report
from .pictures import study_pictures
from .results import study_record, study_results
from .runs import Run
from .storage import COMPARED, KEYS, LOCK, SCORES, study_scores
from .study import Study

SCORES_FILE, RESULTS, PICTURES = 'scores.csv', 'results.json', 'pictures.json'
Pictures = Mapping[str, Sequence[Gallery]]


def write_report(study: Study, runs: Sequence[Run], root: Path, folder: Path, command: str) -> None:
    """Report a finished study, see `rewrite_report` for the files.

    Args:
        study: what was asked for.
        runs: of the study, all ended.
        root: folder of the runs.
        folder: to write to. It also keeps the times of inference (`costs.json`), which are measured once.
        command: that ran the study.

    Raises:
        UserError: some runs have no scores, or the first arm diverged.
    """
    # Two studies of one name may end at the same time; they share their runs.
    with waiting_lock(folder / LOCK):
        remove_unfinished(folder)
        record = study_record(study, runs, root, command, KnownCosts(study, folder / 'costs.json'))
        diverged = {(data['data'], name) for data in record['data_sets'] for name in data['diverged']}
        kept = [run for run in runs if (run.data, run.arm.name) not in diverged]
        write_scores(study_scores(kept, root), folder / SCORES_FILE)
        _draw(study, kept, root, folder)
        _write(record, folder)


def rewrite_report(folder: Path) -> None:
    """Report a study again, from what its last report left in a folder; its runs are not needed.

    `scores.csv` holds the scores of all images, `pictures.json` the pictures, `results.json` the rest. Comparisons and
    conclusions are worked out anew; written are `results.json`, `tables.md` and `report.html`.

    Raises:
        UserError: a file is missing or damaged.
    """
    keys = {'title': str, 'study': dict, 'provenance': dict, 'data_sets': list}
    _write(read_json(folder / RESULTS, 'run the study', **keys), folder)


def _write(record: Mapping[str, Any], folder: Path) -> None:
    results = study_results(record, read_scores(folder / SCORES_FILE))
    tables, page = markdown_report(results), study_page(results, read_pictures(folder / PICTURES), SCORES, COMPARED)
    write_json(folder / RESULTS, results)
    write_text(folder / 'tables.md', tables)
    write_text(folder / 'report.html', page)


def write_scores(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a line for each image of each run that is done: KEYS, then SCORES to six decimals."""
    lines = [
        [*(row[key] for key in KEYS), *('' if row[score] is None else round(row[score], 6) for score in SCORES)]
        for row in rows
    ]
    write_csv(path, (*KEYS, *SCORES), lines)


def read_scores(path: Path) -> list[dict[str, str]]:
    """Read the table of `write_scores`.

    Raises:
        UserError: it is missing or damaged.
    """
    return read_csv(path, 'run the study', *KEYS, *SCORES)


def _draw(study: Study, runs: Sequence[Run], root: Path, folder: Path) -> None:
    """Draw the pictures of each data set, where those that are there are of other runs or other code."""
    path = folder / PICTURES
    key = digest_of([run.key for run in runs], code_digest(*PICTURED))
    if path.is_file() and read_json(path, 'delete it').get('key') == key:
        return
    pictures = {}
    for data in study.data:
        own = [run for run in runs if run.data == data]
        pictures[data] = study_pictures(own, root, study_scores(own, root))
    if any(pictures.values()):
        write_pictures(pictures, key, path)
    else:
        path.unlink(missing_ok=True)


def write_pictures(pictures: Pictures, key: str, path: Path) -> None:
    """Keep the pictures of each data set, with the key of the runs and the code that they are made of."""
    drawn = {data: [asdict(gallery) for gallery in own] for data, own in pictures.items()}
    write_json(path, {'key': key, 'pictures': drawn})


def read_pictures(path: Path) -> Pictures:
    """Read the pictures of each data set; none, where there is no such file.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_file():
        return {}
    drawn = read_json(path, 'delete it, and run the study', pictures=dict)['pictures']
    return {data: [Gallery(**gallery) for gallery in own] for data, own in drawn.items()}
