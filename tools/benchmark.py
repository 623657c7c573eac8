"""Run a study: arms made from parts, trained for equal steps and scored alike."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from mmgfnuc.benchmark import markdown_report, read_study, run_cells, study_cells, study_scores
from mmgfnuc.benchmark.cells import Cell
from mmgfnuc.benchmark.costs import arm_costs, step_seconds
from mmgfnuc.benchmark.local import cell_folder, cell_state, devices
from mmgfnuc.benchmark.scores import KEYS, SCORES
from mmgfnuc.benchmark.study import Study
from mmgfnuc.engine.cli import run_cli
from mmgfnuc.files import whole_file
from mmgfnuc.inference.writers import write_csv

EPILOG = """examples:
  python tools/benchmark.py configs/studies/smoke.yaml --dry-run    the cells, what is done of them, their cost
  python tools/benchmark.py configs/studies/smoke.yaml              run what is not done
  python tools/benchmark.py configs/studies/smoke.yaml --status     while it runs, from another terminal

A cell is one arm on one split with one seed. It is known by its config, the code of this package and the data: what is
done is not done again, in this study or in another; what was interrupted goes on from its last checkpoint; what failed
begins again. In the output folder: cells/<key>/ (config, log, checkpoints, scores), <study>_scores.csv with a line for
each image of each cell, and <study>.md, which compares the arms: the first of them is the baseline."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('study', help='.yaml or .py file, such as those of configs/studies/')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='output folder (%(default)s)')
    parser.add_argument('--processes', type=int, help='at a time (default: one for each GPU, else for each core)')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--dry-run', action='store_true', help='only list the cells, and estimate their cost')
    what.add_argument('--status', action='store_true', help='only say how far it is')
    return parser.parse_args()


def print_estimate(study: Study, cells: list[Cell], states: list[str], processes: int | None) -> None:
    """Print what each arm costs, by a step that is timed now, and how long what is not done will take."""
    seconds = {}
    for arm in study.arms:
        costs, seconds[arm.name] = arm_costs(study, arm), step_seconds(study, arm)
        minutes = seconds[arm.name] * study.steps / 60
        print(
            f'{arm.name}: {costs.parameters / 1e6:.2f} M parameters, {costs.macs / 1e9:.2f} G multiply-adds, '
            f'{seconds[arm.name]:.2f} s a step, about {minutes:.1f} minutes of training'
        )
    open_cells = [cell for cell, state in zip(cells, states, strict=True) if state != 'done']
    total = sum(seconds[cell.arm.name] for cell in open_cells) * study.steps / len(devices(processes)) / 3600
    print(f'about {total:.1f} hours of training are left, without start, loading and scoring')


def main() -> None:
    args = parse_args()
    study = read_study(args.study)
    cells = study_cells(study)
    root = args.out / 'cells'
    states = [cell_state(root, cell) for cell in cells]
    if args.dry_run:
        for cell, state in zip(cells, states, strict=True):
            print(f'{cell.key}  {state:6}  {cell.name}')
    if args.dry_run:
        print_estimate(study, cells, states, args.processes)
    if args.dry_run or args.status:
        print(f'{len(cells)} cells: {", ".join(f"{count} {state}" for state, count in Counter(states).items())}')
        for cell, state in zip(cells, states, strict=True):
            if state == 'failed':
                print(f'failed: {cell.name}, log {cell_folder(root, cell) / "log.txt"}')
        return
    try:
        run_cells(cells, root, args.processes)
    finally:
        rows = study_scores(cells, root)
        table = args.out / f'{Path(args.study).stem}_scores.csv'
        write_csv(table, (*KEYS, *SCORES), [['' if value is None else value for value in row.values()] for row in rows])
    report = args.out / f'{Path(args.study).stem}.md'
    with whole_file(report) as file:
        file.write_text(markdown_report(study, cells, rows, root))
    print(f'{len(cells)} cells done, {len(rows)} images scored -> {table}, {report}')


if __name__ == '__main__':
    sys.exit(run_cli(main))
