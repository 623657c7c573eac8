"""What a study found, as Markdown: scores and costs of the arms, and what can be said of their differences."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from mmgfnuc.analysis.statistics import StudyScores, compare
from mmgfnuc.analysis.tables import table_lines

from .cells import Cell
from .costs import ArmCosts, arm_costs
from .local import cell_folder
from .study import Study

# Scores that arms are compared by, and their headings.
COMPARED = {'dice': 'Dice', 'aji': 'AJI', 'pq': 'PQ'}
COSTS = (
    'parameters (M)',
    'trained (M)',
    'MACs of a tile (G)',
    'token stride (pixels)',
    'minutes of training',
    'peak memory (MB)',
)
PROTOCOL = (
    'Every arm has the same steps, schedule, augmentation, splits and seeds; the last checkpoint is scored, once. '
    'Images are averaged over seeds, then within groups; differences are tested over groups (Wilcoxon signed-rank, '
    'two-sided, Holm-corrected for the number of arms), intervals are those of a bootstrap over groups, folds and '
    'seeds. A difference is called significant where the corrected p is at most 0.05 and the interval excludes 0.'
)


def markdown_report(study: Study, cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]], root: Path) -> str:
    """Render a finished study.

    Args:
        study: what was asked for.
        cells: of the study, all done.
        rows: their scores, from `study_scores`.
        root: folder of the runs.

    Raises:
        UserError: some cells have no scores.
    """
    tables = {score: StudyScores.from_rows(rows, score) for score in COMPARED}
    runs = [json.loads((cell_folder(root, cell) / 'done.json').read_text()) for cell in cells]
    return '\n\n'.join(
        [
            f'# {study.title}',
            _arm_table(study, cells, runs, tables),
            PROTOCOL,
            *(_words(study, title, tables[score]) for score, title in COMPARED.items()),
            _conditions(study, runs, tables['dice']),
        ]
    )


def _arm_table(
    study: Study, cells: Sequence[Cell], runs: Sequence[Mapping[str, Any]], tables: Mapping[str, StudyScores]
) -> str:
    """Means over groups of each arm, and what the arm costs."""
    means = {score: table.group_means().mean(axis=1) for score, table in tables.items()}
    lines = []
    for number, arm in enumerate(study.arms):
        scores = [f'{means[score][number]:.3f}' for score in COMPARED]
        own = [run for cell, run in zip(cells, runs, strict=True) if cell.arm == arm]
        lines.append([f'`{arm.name}`', *scores, *_cost_cells(arm_costs(study, arm), own)])
    return table_lines(['arm', *COMPARED.values(), *COSTS], lines)


def _cost_cells(costs: ArmCosts, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    stride = 'none' if costs.token_stride is None else f'{costs.token_stride:g}'
    minutes = mean(run['train_seconds'] / 60 for run in runs)
    return [
        f'{costs.parameters / 1e6:.2f}',
        f'{costs.trained / 1e6:.2f}',
        f'{costs.macs / 1e9:.2f}',
        stride,
        f'{minutes:.1f}',
        f'{max(run["peak_mb"] for run in runs):,}',
    ]


def _words(study: Study, title: str, table: StudyScores) -> str:
    """Say of each arm how it differs from the first."""
    lines = [f'## {title}']
    if len(study.arms) > 1:
        lines += [f'- {comparison.in_words(title)}' for comparison in compare(table, study.arms[0].name)]
    else:
        lines.append('One arm: there is nothing to compare it with.')
    if table.left_out:
        lines.append(f'{table.left_out} images have no {title} in some arm and are left out.')
    return '\n'.join([lines[0], '', *lines[1:]])


def _conditions(study: Study, runs: Sequence[Mapping[str, Any]], table: StudyScores) -> str:
    hardware = ', '.join(sorted({run['hardware'] for run in runs}))
    commits = ', '.join(sorted({run['commit'] or 'installed' for run in runs}))
    versions = ', '.join(f'{name} {version}' for name, version in runs[0]['versions'].items())
    return (
        f'## Conditions\n\n{study.steps} steps of {study.batch_size} images{" under bfloat16 autocast" * study.amp}; '
        f'splits {", ".join(study.splits)}; seeds {", ".join(map(str, study.seeds))}; {len(table.group_of)} images of '
        f'{len(table.groups)} groups ({", ".join(table.groups)}). {hardware}. Commit {commits}. {versions}.\n'
    )
