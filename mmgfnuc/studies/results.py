"""What a study found, as one JSON-able table from which both reports are made."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from mmgfnuc import __version__
from mmgfnuc.datasets.canonical import read_meta
from mmgfnuc.errors import UserError
from mmgfnuc.files import read_json
from mmgfnuc.models.weights.locate import RANDOM
from mmgfnuc.studies.paired_tests import Comparison, compare, percentile_interval
from mmgfnuc.studies.statistics import StudyScores
from mmgfnuc.studies.statistics_ranks import rank_arms

from .cells import Cell, code_digest, data_digest, data_root
from .conclusions import conclusions
from .folders import DIVERGED, FINDINGS, again, cell_folder, cell_state, divergence, read_run, weights_of
from .pairs import control_pairs, fusion_pairs, is_control, other_pairs
from .pooled import pooled_findings
from .scores import COMPARED, SCORES, study_scores
from .study import Arm, Study

FEWEST_RANKED, FEWEST_GROUPS = 3, 2


def study_results(
    study: Study, cells: Sequence[Cell], root: Path, command: str, costs_of: Callable[[Arm], dict[str, Any]]
) -> dict[str, Any]:
    """Gather scores, comparisons, costs and provenance of a finished study.

    An arm of which a run diverged on a data set has no scores there, and is compared with nothing.

    Args:
        study: what was asked for.
        cells: of the study, all ended.
        root: folder of the runs.
        command: that ran it.
        costs_of: gives parameters, multiply-adds, token stride and what inference costs of an arm.

    Raises:
        UserError: some cells have no scores, or the first arm diverged.
    """
    done = [cell for cell in cells if cell_state(root, cell) != DIVERGED]
    runs = {cell.key: read_run(cell_folder(root, cell)) for cell in done}
    chapters = []
    for data in study.data:
        own = [cell for cell in cells if cell.data == data]
        diverged = diverged_arms(own, root)
        if study.arms[0].name in diverged:
            raise UserError(f'{in_words(diverged)[0]} It is what others are compared with: train with another rate')
        rest = replace(study, arms=tuple(arm for arm in study.arms if arm.name not in diverged))
        kept = [cell for cell in own if cell.arm.name not in diverged]
        chapters.append({**_chapter(rest, kept, root, runs, costs_of), 'diverged': diverged})
    conditions = {name: getattr(study, name) for name in ('steps', 'batch_size', 'amp', 'seeds', 'splits', 'remark')}
    for chapter in chapters:
        chapter['conclusion'] = [*conclusions(chapter, conditions), *in_words(chapter['diverged'])]
    return {
        'title': study.title,
        'study': conditions,
        'provenance': {**_provenance(study, list(runs.values()), command), 'weights': _weights(done, root)},
        'chapters': chapters,
    }


def diverged_arms(cells: Sequence[Cell], root: Path) -> dict[str, dict[str, Any]]:
    """Arms of which runs diverged: how many of how many, and what each said."""
    of = Counter(cell.arm.name for cell in cells)
    found: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if cell_state(root, cell) == DIVERGED:
            name = cell.arm.name
            said = f'{cell.split} seed {cell.seed}: {divergence(root, cell)}'
            found.setdefault(name, {'of': of[name], 'runs': []})['runs'].append(said)
    return found


def in_words(diverged: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which arms diverged, a sentence for each."""
    return [
        f'{arm}: {len(found["runs"])} of {found["of"]} runs diverged; it has no scores and is compared with nothing.'
        for arm, found in diverged.items()
    ]


def _provenance(study: Study, runs: Sequence[Mapping[str, Any]], command: str) -> dict[str, Any]:
    return {
        'commits': sorted({run['commit'] or 'installed' for run in runs}),
        'versions': {
            name: ' and '.join(sorted({run['versions'][name] for run in runs})) for name in runs[0]['versions']
        },
        'hardware': sorted({run['hardware'] for run in runs}),
        'code_digest': code_digest(),
        'data_digests': {data: data_digest(data_root(study, data)) for data in study.data},
        'command': command,
        'date': datetime.now().date().isoformat(),
        'package': __version__,
    }


def _weights(cells: Sequence[Cell], root: Path) -> dict[str, str]:
    """SHA-256 of the weight file of each encoder, where it has one."""
    folders = {cell.arm.foundation: cell_folder(root, cell) for cell in cells if cell.arm.encoder_weights != RANDOM}
    digests = {encoder: weights_of(folder) for encoder, folder in folders.items() if encoder}
    return {encoder: digest for encoder, digest in digests.items() if digest}


def _chapter(
    study: Study,
    cells: Sequence[Cell],
    root: Path,
    runs: Mapping[str, Mapping[str, Any]],
    costs_of: Callable[[Arm], dict[str, Any]],
) -> dict[str, Any]:
    """All that is said of one data set."""
    rows = study_scores(cells, root)
    tables = {score: StudyScores.from_rows(rows, score) for score in SCORES}
    meta = read_meta(data_root(study, cells[0].data))
    chapter: dict[str, Any] = {
        'data': cells[0].data,
        'source': f'{meta["citation"]}, {meta["licence"]}',
        'num_images': len({row['image'] for row in rows}),
        'mixed': len({json.dumps([runs[cell.key]['versions'], runs[cell.key]['hardware']]) for cell in cells}) > 1,
        'groups': list(tables['dice'].groups),
        'left_out': {score: tables[score].left_out for score in COMPARED},
        'arms': [],
    }
    for arm in study.arms:
        own = [cell for cell in cells if cell.arm == arm]
        costs = {**costs_of(arm), **_training([runs[cell.key] for cell in own])}
        findings = [_findings(cell_folder(root, cell)) for cell in own]
        chapter['arms'].append({**_arm(arm, tables), 'costs': costs, **pooled_findings(findings)})
    fused = fusion_pairs(study.arms)
    chapter['comparisons'] = _compared(tables, [*fused, *other_pairs(study.arms)])
    chapter['fusion_gains'] = {
        score: [found for found in comparisons if (found['arm'], found['baseline']) in fused]
        for score, comparisons in chapter['comparisons'].items()
    }
    chapter['controls'] = _compared(tables, control_pairs(study.arms))
    chapter['ranks'] = {score: _ranks(tables[score]) for score in COMPARED}
    return chapter


def _compared(tables: Mapping[str, StudyScores], pairs: Sequence[tuple[str, str]]) -> dict[str, list[dict[str, Any]]]:
    return {
        score: [_as_dict(found, title) for found in compare(tables[score], pairs)] if pairs else []
        for score, title in COMPARED.items()
    }


def _as_dict(found: Comparison, title: str) -> dict[str, Any]:
    return {**asdict(found), 'significant': found.significant, 'words': found.in_words(title)}


def _arm(arm: Arm, tables: Mapping[str, StudyScores]) -> dict[str, Any]:
    dice = tables['dice']
    return {
        'name': arm.name,
        'unet': arm.unet,
        'foundation': arm.foundation,
        'fusion': arm.fusion,
        'weights': arm.weights,
        'head': arm.head,
        'parts': arm.parts,
        'label': arm.label,
        'control': is_control(arm),
        'scores': {score: _with_interval(table, arm.name) for score, table in tables.items()},
        'groups': {score: _by_group(tables[score], arm.name) for score in COMPARED},
        'images': {'dice': dice.values[dice.index(arm.name)].mean(axis=1).tolist()},
    }


def _with_interval(table: StudyScores, arm: str) -> dict[str, Any]:
    """Mean over groups, and its 95 % interval."""
    values = table.values[table.index(arm)]
    drawn = table.resampled_group_means(values).mean(axis=1)
    # Stretched deviations may leave the range of the scores.
    interval = percentile_interval(drawn.clip(0, 1), len(table.groups))
    return {'mean': float(table.group_means()[table.index(arm)].mean()), 'interval': interval}


def _by_group(table: StudyScores, arm: str) -> dict[str, float]:
    return dict(zip(table.groups, table.group_means()[table.index(arm)].tolist(), strict=True))


def _ranks(table: StudyScores) -> dict[str, Any] | None:
    ranked = len(table.arms) >= FEWEST_RANKED and len(table.groups) >= FEWEST_GROUPS
    return asdict(rank_arms(table)) if ranked else None


def _training(runs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Median time and largest memory; no time where features came from a cache, for it says nothing of the arm."""
    cached = any(run['cached'] for run in runs)
    return {
        'train_seconds': None if cached else median(run['train_seconds'] for run in runs),
        'train_mb': max(run['peak_mb'] for run in runs),
    }


def _findings(folder: Path) -> dict[str, Any]:
    return read_json(folder / FINDINGS, again(folder), calibration=dict, gates=list)
