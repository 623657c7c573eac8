"""Writes what a study found: a table of scores, the results as JSON, a report as Markdown and one as HTML."""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mmgfnuc.engine.provenance import hardware
from mmgfnuc.files import read_json, remove_unfinished, waiting_lock, write_csv, write_text
from mmgfnuc.models import complexity
from mmgfnuc.visualization.study_page import study_page

from . import costs
from .cells import Cell, cell_config, code_digest
from .costs import arm_costs, inference_costs
from .folders import LOCK
from .markdown_report import markdown_report
from .pictures import study_pictures
from .results import study_results
from .scores import COMPARED, KEYS, SCORES, study_scores
from .study import Arm, Study


def write_report(study: Study, cells: Sequence[Cell], root: Path, folder: Path, command: str) -> None:
    """Write `scores.csv`, `results.json`, `tables.md` and `report.html` of a finished study.

    Args:
        study: what was asked for.
        cells: of the study, all ended.
        root: folder of the runs.
        folder: to write to. It also keeps the times of inference (`costs.json`), which are measured once.
        command: that ran the study.

    Raises:
        UserError: some cells have no scores, or the first arm diverged.
    """
    # Two studies of one name may end at the same time; they share their cells.
    with waiting_lock(folder / LOCK):
        remove_unfinished(folder)
        _write_report(study, cells, root, folder, command)


def _write_report(study: Study, cells: Sequence[Cell], root: Path, folder: Path, command: str) -> None:
    rows = {data: study_scores([cell for cell in cells if cell.data == data], root) for data in study.data}
    write_scores(rows, folder / 'scores.csv')
    results = study_results(study, cells, root, command, _Costs(study, folder / 'costs.json'))
    pictures = {}
    for chapter in results['chapters']:
        data, diverged = chapter['data'], chapter['diverged']
        own = [cell for cell in cells if cell.data == data and cell.arm.name not in diverged]
        pictures[data] = study_pictures(own, root, [row for row in rows[data] if row['arm'] not in diverged])
    for name, text in (
        ('results.json', json.dumps(results, indent=1, allow_nan=False) + '\n'),
        ('tables.md', markdown_report(results)),
        ('report.html', study_page(results, pictures, SCORES, COMPARED)),
    ):
        write_text(folder / name, text)


def write_scores(rows: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Write a line for each image of each cell that is done: data set, KEYS, then SCORES to six decimals.

    One that diverged has no scores, and no line.
    """
    lines = [
        [data, *(row[key] for key in KEYS), *('' if row[score] is None else round(row[score], 6) for score in SCORES)]
        for data, of_data in rows.items()
        for row in of_data
    ]
    write_csv(path, ('data', *KEYS, *SCORES), lines)


class _Costs:
    """Costs of the arms of a study, kept in a file: what was measured before for the same model is not measured again.

    Args:
        study: that the arms are of; its first arm is the baseline.
        path: of the file.
    """

    def __init__(self, study: Study, path: Path) -> None:
        self.study, self.path = study, path
        self.known: dict[str, Any] = {}
        if path.is_file():
            self.known = read_json(path, 'delete it, and it is measured again')

    def __call__(self, arm: Arm) -> dict[str, Any]:
        key = self._key(arm)
        if key not in self.known:
            self.known[key] = self._measure(arm)
            write_text(self.path, json.dumps(self.known, indent=1) + '\n')
        return self.known[key]

    def _key(self, arm: Arm) -> str:
        study = self.study
        models = [cell_config(study, each, study.splits[0], study.seeds[0]).model for each in (arm, study.arms[0])]
        # How it is measured is no part of the code that scores depend on.
        method = [inspect.getsource(module) for module in (costs, complexity)]
        known = f'{models}{code_digest()}{method}{torch.__version__}{hardware()}'
        return hashlib.sha256(known.encode()).hexdigest()

    def _measure(self, arm: Arm) -> dict[str, Any]:
        inference = inference_costs(self.study, arm)
        return {
            **asdict(arm_costs(self.study, arm)),
            'inference_seconds': inference.seconds,
            'inference_ratio': inference.ratio,
            'inference_mb': inference.bytes / 10**6,
        }
