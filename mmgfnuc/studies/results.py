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
from mmgfnuc.models.foundation.locate import RANDOM
from mmgfnuc.studies.paired_tests import Comparison, compare, percentile_interval
from mmgfnuc.studies.statistics import StudyScores
from mmgfnuc.studies.statistics_ranks import rank_arms

from .conclusions import conclusions
from .folders import DIVERGED, INSIDE, again, divergence, read_record, run_folder, run_state, weights_of
from .pairs import control_pairs, fusion_pairs, is_control, other_pairs
from .pooled import pooled_inside
from .runs import Run, code_digest, data_digest, data_root
from .scores import COMPARED, SCORES, study_scores
from .study import Arm, Study

FEWEST_RANKED, FEWEST_GROUPS = 3, 2


def study_results(
    study: Study, runs: Sequence[Run], root: Path, command: str, costs_of: Callable[[Arm], dict[str, Any]]
) -> dict[str, Any]:
    """Gather scores, comparisons, costs and provenance of a finished study.

    An arm of which a run diverged on a data set has no scores there, and is compared with nothing.

    Args:
        study: what was asked for.
        runs: of the study, all ended.
        root: folder of the runs.
        command: that ran it.
        costs_of: gives parameters, multiply-adds, token stride and what inference costs of an arm.

    Raises:
        UserError: some runs have no scores, or the first arm diverged.
    """
    done = [run for run in runs if run_state(root, run) != DIVERGED]
    records = {run.key: read_record(run_folder(root, run)) for run in done}
    data_sets = []
    for data in study.data:
        own = [run for run in runs if run.data == data]
        diverged = diverged_arms(own, root)
        if study.arms[0].name in diverged:
            raise UserError(f'{in_words(diverged)[0]} It is what others are compared with: train with another rate')
        rest = replace(study, arms=tuple(arm for arm in study.arms if arm.name not in diverged))
        kept = [run for run in own if run.arm.name not in diverged]
        data_sets.append({**_data_set(rest, kept, root, records, costs_of), 'diverged': diverged})
    conditions = {name: getattr(study, name) for name in ('steps', 'batch_size', 'amp', 'seeds', 'splits', 'remark')}
    for data_set in data_sets:
        data_set['conclusion'] = [*conclusions(data_set, conditions), *in_words(data_set['diverged'])]
    return {
        'title': study.title,
        'study': conditions,
        'provenance': {**_provenance(study, list(records.values()), command), 'weights': _weights(done, root)},
        'data_sets': data_sets,
    }


def diverged_arms(runs: Sequence[Run], root: Path) -> dict[str, dict[str, Any]]:
    """Arms of which runs diverged: how many of how many, and what each said."""
    of = Counter(run.arm.name for run in runs)
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run_state(root, run) == DIVERGED:
            name = run.arm.name
            said = f'{run.split} seed {run.seed}: {divergence(root, run)}'
            found.setdefault(name, {'of': of[name], 'runs': []})['runs'].append(said)
    return found


def in_words(diverged: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which arms diverged, a sentence for each."""
    return [
        f'{arm}: {len(found["runs"])} of {found["of"]} runs diverged; it has no scores and is compared with nothing.'
        for arm, found in diverged.items()
    ]


def _provenance(study: Study, records: Sequence[Mapping[str, Any]], command: str) -> dict[str, Any]:
    return {
        'commits': sorted({record['commit'] or 'installed' for record in records}),
        'versions': {
            name: ' and '.join(sorted({record['versions'][name] for record in records}))
            for name in records[0]['versions']
        },
        'hardware': sorted({record['hardware'] for record in records}),
        'code_digest': code_digest(),
        'data_digests': {data: data_digest(data_root(study, data)) for data in study.data},
        'command': command,
        'date': datetime.now().date().isoformat(),
        'package': __version__,
    }


def _weights(runs: Sequence[Run], root: Path) -> dict[str, str]:
    """SHA-256 of the weight file of each encoder, where it has one."""
    folders = {run.arm.foundation: run_folder(root, run) for run in runs if run.arm.encoder_weights != RANDOM}
    digests = {encoder: weights_of(folder) for encoder, folder in folders.items() if encoder}
    return {encoder: digest for encoder, digest in digests.items() if digest}


def _data_set(
    study: Study,
    runs: Sequence[Run],
    root: Path,
    records: Mapping[str, Mapping[str, Any]],
    costs_of: Callable[[Arm], dict[str, Any]],
) -> dict[str, Any]:
    """All that is said of one data set."""
    rows = study_scores(runs, root)
    tables = {score: StudyScores.from_rows(rows, score) for score in SCORES}
    meta = read_meta(data_root(study, runs[0].data))
    data_set: dict[str, Any] = {
        'data': runs[0].data,
        'source': f'{meta["citation"]}, {meta["licence"]}',
        'num_images': len({row['image'] for row in rows}),
        'mixed': len({json.dumps([records[run.key]['versions'], records[run.key]['hardware']]) for run in runs}) > 1,
        'groups': list(tables['dice'].groups),
        'left_out': {score: tables[score].left_out for score in COMPARED},
        'arms': [],
    }
    for arm in study.arms:
        own = [run for run in runs if run.arm == arm]
        costs = {**costs_of(arm), **_training([records[run.key] for run in own])}
        inside = [_inside(run_folder(root, run)) for run in own]
        data_set['arms'].append({**_arm(arm, tables), 'costs': costs, **pooled_inside(inside)})
    fused = fusion_pairs(study.arms)
    data_set['comparisons'] = _compared(tables, [*fused, *other_pairs(study.arms)])
    data_set['fusion_gains'] = {
        score: [found for found in comparisons if (found['arm'], found['baseline']) in fused]
        for score, comparisons in data_set['comparisons'].items()
    }
    data_set['controls'] = _compared(tables, control_pairs(study.arms))
    data_set['ranks'] = {score: _ranks(tables[score]) for score in COMPARED}
    return data_set


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


def _training(records: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Median time and largest memory; no time where features came from a cache, for it says nothing of the arm."""
    cached = any(record['cached'] for record in records)
    return {
        'train_seconds': None if cached else median(record['train_seconds'] for record in records),
        'train_mb': max(record['peak_mb'] for record in records),
    }


def _inside(folder: Path) -> dict[str, Any]:
    return read_json(folder / INSIDE, again(folder), calibration=dict, gates=list)
