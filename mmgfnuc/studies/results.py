"""What a study found, as one JSON-able table from which all reports are made.

A record is gathered from the runs; the rest follows from it and from the scores of the images alone, so that a study
can be reported again without its runs.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from mmgfnuc import __version__
from mmgfnuc.datasets.canonical import read_meta
from mmgfnuc.errors import UserError
from mmgfnuc.models.weights.locate import RANDOM

from .arms import FUSED_PARTS, Arm
from .conclusions import conclusions
from .identity import SCORED, code_digest, data_digest
from .inside import pooled_inside
from .runs import Run, data_root, manifests
from .statistics import Comparison, StudyScores, compare, interval_of
from .storage import (
    COMPARED,
    DIVERGED,
    SCORES,
    divergence,
    read_inside,
    read_record,
    run_folder,
    run_state,
    weights_of,
)
from .study import Study

CONDITIONS = ('steps', 'batch_size', 'amp', 'seeds', 'splits', 'remark')
# Of a data set and of an arm: what only the runs can tell. The rest is worked out.
RECORDED = ('data', 'source', 'mixed', 'diverged', 'arms')
ARM_FIELDS = tuple(field.name for field in fields(Arm))
ARM_RECORDED = ('name', *ARM_FIELDS, 'costs', 'calibration', 'gates')
# Fusions that keep the design of `context` and take away what the encoder sees in the image, or where.
BLIND = ('zero-context', 'shuffled-context-image', 'shuffled-context-spatial')
SEEING = 'context'
# These get no context at all.
WITHOUT_CONTEXT = ('attention-only',)


def study_record(
    study: Study, runs: Sequence[Run], root: Path, command: str, costs_of: Callable[[Arm], dict[str, Any]]
) -> dict[str, Any]:
    """Gather from the runs of a study all but their scores: conditions, provenance, costs, what is inside the models.

    An arm of which a run diverged on a data set is left out there.

    Args:
        study: what was asked for.
        runs: of the study, all ended.
        root: folder of the runs.
        command: that ran it.
        costs_of: gives parameters, multiply-adds, token stride and what inference costs of an arm.

    Raises:
        UserError: a file of a run is damaged, or the first arm diverged.
    """
    done = [run for run in runs if run_state(root, run) != DIVERGED]
    records = {run.key: read_record(run_folder(root, run)) for run in done}
    return {
        'title': study.title,
        'study': {name: getattr(study, name) for name in CONDITIONS},
        'provenance': {
            **_provenance(study, list(records.values()), root, command),
            'weights': _weights(done, root),
        },
        'data_sets': [
            _recorded(study, [run for run in runs if run.data == data], root, records, costs_of) for data in study.data
        ],
    }


def _provenance(study: Study, records: Sequence[Mapping[str, Any]], root: Path, command: str) -> dict[str, Any]:
    return {
        'commits': sorted({record['commit'] or 'installed' for record in records}),
        'versions': {
            name: ' and '.join(sorted({record['versions'][name] for record in records}))
            for name in records[0]['versions']
        },
        'hardware': sorted({record['hardware'] for record in records}),
        'code_digest': code_digest(*SCORED),
        'data_digests': {data: data_digest(data_root(study, data), manifests(root)) for data in study.data},
        'command': command,
        'date': datetime.now().date().isoformat(),
        'package': __version__,
    }


def _weights(runs: Sequence[Run], root: Path) -> dict[str, str]:
    """SHA-256 of the weight file of each encoder, where it has one."""
    folders = {run.arm.encoder: run_folder(root, run) for run in runs if run.arm.encoder_weights != RANDOM}
    digests = {encoder: weights_of(folder) for encoder, folder in folders.items() if encoder}
    return {encoder: digest for encoder, digest in digests.items() if digest}


def _recorded(
    study: Study,
    runs: Sequence[Run],
    root: Path,
    records: Mapping[str, Mapping[str, Any]],
    costs_of: Callable[[Arm], dict[str, Any]],
) -> dict[str, Any]:
    """What the runs on one data set tell."""
    diverged = diverged_arms(runs, root)
    if study.arms[0].name in diverged:
        raise UserError(f'{in_words(diverged)[0]} It is what others are compared with: train with another rate')
    runs = [run for run in runs if run.arm.name not in diverged]
    meta = read_meta(data_root(study, runs[0].data))
    made = {json.dumps([records[run.key]['versions'], records[run.key]['hardware']]) for run in runs}
    arms = []
    for arm in study.arms:
        if arm.name not in diverged:
            folders = {run.key: run_folder(root, run) for run in runs if run.arm == arm}
            costs = {**costs_of(arm), **_training([records[key] for key in folders])}
            inside = pooled_inside([read_inside(folder) for folder in folders.values()])
            settings = {name: getattr(arm, name) for name in ARM_FIELDS}
            arms.append({'name': arm.name, **settings, 'costs': costs, **inside})
    return {
        'data': runs[0].data,
        'source': f'{meta["citation"]}, {meta["licence"]}',
        'mixed': len(made) > 1,
        'diverged': diverged,
        'arms': arms,
    }


def _training(records: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Median time and largest memory; no time where features came from a cache, for it says nothing of the arm."""
    cached = any(record['cached'] for record in records)
    return {
        'train_seconds': None if cached else median(record['train_seconds'] for record in records),
        'train_mb': max(record['peak_mb'] for record in records),
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


def study_results(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Work out what a study found: scores of the arms, comparisons, conclusions.

    Args:
        record: of `study_record`, or results that were worked out before.
        rows: scores of every image, with the name of its data set, see `read_scores`.

    Raises:
        UserError: scores are missing.
    """
    data_sets = []
    for recorded in record['data_sets']:
        own = [row for row in rows if row['data'] == recorded['data']]
        kept = {name: recorded[name] for name in RECORDED}
        # Earlier records do not say what their arms had by default.
        kept['arms'] = [{name: arm[name] for name in ARM_RECORDED if name in arm} for arm in recorded['arms']]
        data_set = _found(kept, own)
        data_set['conclusion'] = [*conclusions(data_set, record['study']), *in_words(data_set['diverged'])]
        data_sets.append(data_set)
    return {**record, 'data_sets': data_sets}


def _found(recorded: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All that is said of one data set but its conclusion."""
    tables = {score: StudyScores.from_rows(rows, score) for score in SCORES}
    arms = [Arm(**{name: arm[name] for name in ARM_FIELDS if name in arm}) for arm in recorded['arms']]
    fused = fusion_pairs(arms)
    comparisons = _compared(tables, [*fused, *other_pairs(arms)])
    return {
        **recorded,
        'num_images': len({row['image'] for row in rows}),
        'groups': list(tables['dice'].groups),
        'left_out': {score: tables[score].left_out for score in COMPARED},
        'arms': [
            {**known, 'is_control': is_control(arm), **_scores(arm.name, tables)}
            for known, arm in zip(recorded['arms'], arms, strict=True)
        ],
        'comparisons': comparisons,
        'fusion_gains': {
            score: [found for found in founds if (found['arm'], found['baseline']) in fused]
            for score, founds in comparisons.items()
        },
        'controls': _compared(tables, control_pairs(arms)),
    }


def _compared(tables: Mapping[str, StudyScores], pairs: Sequence[tuple[str, str]]) -> dict[str, list[dict[str, Any]]]:
    return {
        score: [_as_dict(found, title) for found in compare(tables[score], pairs)] for score, title in COMPARED.items()
    }


def _as_dict(found: Comparison, title: str) -> dict[str, Any]:
    said = {name: getattr(found, name) for name in ('significant', 'evidence', 'verdict')}
    return {**asdict(found), **said, 'words': found.in_words(title)}


def _scores(arm: str, tables: Mapping[str, StudyScores]) -> dict[str, Any]:
    dice = tables['dice']
    return {
        'scores': {score: _with_interval(table, arm) for score, table in tables.items()},
        'groups': {score: _by_group(tables[score], arm) for score in COMPARED},
        'images': {'dice': dice.values[dice.index(arm)].mean(axis=1).tolist()},
    }


def _with_interval(table: StudyScores, arm: str) -> dict[str, Any]:
    """Mean over groups, and its 95 % interval."""
    by_group, values = table.group_means()[table.index(arm)], table.values[table.index(arm)]
    ends = interval_of(by_group, table.network_shares(values))
    # Scores lie between 0 and 1.
    return {'mean': float(by_group.mean()), 'interval': ends and [max(ends[0], 0.0), min(ends[1], 1.0)]}


def _by_group(table: StudyScores, arm: str) -> dict[str, float]:
    return dict(zip(table.groups, table.group_means()[table.index(arm)].tolist(), strict=True))


def is_control(arm: Arm) -> bool:
    """Say whether an arm has a fusion from which nothing of what a trained encoder sees in the image can come."""
    blind = arm.control or arm.fusion in (*BLIND, *WITHOUT_CONTEXT)
    return bool(arm.foundation) and bool(blind or arm.encoder_weights == RANDOM)


def fusion_pairs(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Pair each arm with fusion with the same arm without, as far as the study has it."""
    return [
        (arm.name, alone.name)
        for arm in arms
        if arm.foundation
        for alone in [each for each in arms if not each.foundation and _host(each) == _host(arm)][:1]
    ]


def other_pairs(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Pair all other arms with the first, the baseline of the study."""
    fused = fusion_pairs(arms)
    done = {arm for arm, _ in fused}
    pairs = [(arm.name, arms[0].name) for arm in arms[1:] if arm.name not in done]
    return [(arm, first) for arm, first in pairs if (first, arm) not in fused]


def control_pairs(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Pair each arm whose fusion sees the image with the controls that differ from it in just that.

    They are the same arm with a random encoder, and with features that are permuted, those of another image, or zero.
    """
    return [
        (arm.name, control.name)
        for arm in arms
        if arm.foundation and not is_control(arm)
        for control in arms
        if _without_weights(control) == _without_weights(arm)
        if _takes_one_away(control, arm)
    ]


def _takes_one_away(control: Arm, arm: Arm) -> bool:
    """Say whether a control lacks what the encoder has learned or what it sees, and only one of them."""
    if control.encoder_weights == RANDOM:
        return control.fusion == arm.fusion and not control.control
    if control.encoder_weights != arm.encoder_weights:
        return False
    if control.control:
        return control.fusion == arm.fusion
    return arm.fusion == SEEING and control.fusion in BLIND


def _host(arm: Arm) -> tuple[Any, ...]:
    """All of an arm that does not belong to its fusion."""
    return arm.unet, arm.head, *_trained_how(arm), _without(arm.parts, *FUSED_PARTS)


def _without_weights(arm: Arm) -> tuple[Any, ...]:
    """All of an arm but its fusion, its control and its weights."""
    laid_over = _without(arm.parts.get('foundation', {}), 'weights')
    encoder = _without(arm.foundation, 'weights') if isinstance(arm.foundation, Mapping) else arm.foundation
    return arm.unet, arm.head, *_trained_how(arm), encoder, {**arm.parts, 'foundation': laid_over}


def _trained_how(arm: Arm) -> tuple[Any, ...]:
    return arm.augmentation, arm.schedule, arm.lr, arm.changes


def _without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}
