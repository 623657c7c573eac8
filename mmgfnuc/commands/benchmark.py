"""Compare arms: which U-Net, which foundation encoder, which fusion, does it really help?

A study trains arms, models made from parts, for equal steps on the same data sets, splits and seeds, scores them alike,
and reports what can be said of their differences. The first arm is the baseline.
"""

import argparse
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mmgfnuc.engine.cli import positive_float
from mmgfnuc.errors import UserError
from mmgfnuc.studies.arms import ARM_KEYS
from mmgfnuc.studies.engines import devices
from mmgfnuc.studies.identity import digest_of
from mmgfnuc.studies.runs import Run, study_runs
from mmgfnuc.studies.scheduling import FailedRunsError, run_all, status_lines
from mmgfnuc.studies.storage import DIVERGED, ENDED, SCORED, run_state
from mmgfnuc.studies.study import (
    Study,
    find_study,
    list_studies,
    make_study,
    read_settings,
    read_study,
)

# PyTorch is imported where it is needed: to say how far a study is takes a second without it.
EPILOG = """\
examples:
  mmgfnuc benchmark smoke                a ready study, by its name: minutes, no download, no GPU
  mmgfnuc benchmark fusions --dry-run    the runs, what is done of them, what they cost
  mmgfnuc benchmark fusions --status     while it runs, from another terminal
  mmgfnuc benchmark my_study.yaml --seeds 0 1 2
  mmgfnuc benchmark --imports own_parts --encoders vit-tiny --fusions none film context    film: in own_parts.py
  mmgfnuc benchmark --rewrite docs/results/studies/fusions
  mmgfnuc benchmark --unets unet eunet3+ --encoders vit-tiny --fusions none paper --data nuinsseg \\
      --splits grouped-3-fold-0 grouped-3-fold-1 --seeds 0 1 --steps 300

ready studies:
{studies}

A run is one training: one arm on one split of one data set with one seed. It is known by its config, the data, the
libraries and the code that scores depend on: what is done is not done again, in this study or in another; what was
interrupted or has failed goes on from its last checkpoint. The report leaves out arms with a failed run. In the output
folder: runs/<key>/ (config, log, checkpoints, scores), and for each study <study>/ with report.html, tables.md and what
they are made of: results.json, scores.csv, pictures.json. Where arms or conditions are given here, the name of that
folder ends with a short hash of them, as in fusions-1a2b3c/.

docs/benchmark_protocol.md says how a study is written and what makes it fair."""


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    ready = '\n'.join(f'  {name:14}  {read_settings(path)["title"]}' for name, path in list_studies().items())
    parser = argparse.ArgumentParser(
        prog='mmgfnuc benchmark',
        usage='%(prog)s STUDY [options]\n       %(prog)s --unets NAME ... [options]',
        description=__doc__,
        epilog=EPILOG.format(studies=ready),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument('study', nargs='?', metavar='STUDY', help='name of a ready study, or a .yaml or .py file')
    arms = parser.add_argument_group('arms, in the place of STUDY: every combination of')
    names: dict[str, Any] = dict(nargs='+', metavar='NAME')
    arms.add_argument('--unets', dest='unet', **names, help='mmgfnuc.list_unets() (unet)')
    arms.add_argument(
        '--encoders',
        dest='foundation',
        **names,
        help='mmgfnuc.list_foundation(); `present`: all whose weights are found here',
    )
    arms.add_argument('--fusions', dest='fusion', **names, help='mmgfnuc.list_fusions(); none: without encoder (none)')
    arms.add_argument(
        '--controls',
        dest='control',
        **{**names, 'type': null_or_text},
        help='of the fusions: `zero`, `shuffled` or `image` in the place of what the encoder sees; `null`: none (null)',
    )
    arms.add_argument(
        '--weights',
        **{**names, 'type': null_or_text},
        help='of encoders: files, names in $MMGFNUC_WEIGHTS, `random` for a control, `null`: those of its entry (null)',
    )
    arms.add_argument('--heads', dest='head', **names, help='mmgfnuc.list_heads() (semantic)')
    arms.add_argument(
        '--schedules',
        dest='schedule',
        **names,
        help='of configs/_base_/schedules, those that count steps (adam-steps)',
    )
    arms.add_argument('--lr', nargs='+', type=positive_float, metavar='N', help='learning rates (that of the schedule)')
    conditions = parser.add_argument_group('conditions; given with STUDY, they take the place of its own')
    conditions.add_argument('--title', help='of the report')
    conditions.add_argument('--data', **names, help='presets of configs/_base_/datasets (nuinsseg)')
    conditions.add_argument('--data-root', metavar='DIR', help='folder of the only data set (that of its preset)')
    conditions.add_argument('--splits', **names, help='files of splits/ of each data set, one for each fold (organs)')
    conditions.add_argument('--seeds', nargs='+', type=int, metavar='N', help='of weights, order, augmentation (0)')
    conditions.add_argument('--steps', type=int, metavar='N', help='of the optimiser (300)')
    conditions.add_argument('--batch-size', type=int, metavar='N', help='images of a step (4)')
    conditions.add_argument('--types', action='store_true', help='learn the nucleus types of the data')
    conditions.add_argument(
        '--imports', nargs='+', metavar='MODULE', help='modules with parts of your own, also in the working folder'
    )
    conditions.add_argument('--amp', action='store_true', help='train under bfloat16 autocast')
    running = parser.add_argument_group('running')
    running.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='output folder (%(default)s)')
    running.add_argument('--engine', choices=('local', 'ray'), default='local', help='what starts runs (%(default)s)')
    running.add_argument(
        '--processes', type=positive_int, metavar='N', default=None, help='at a time (one for each GPU, else core)'
    )
    running.add_argument(
        '--cache-gb',
        type=positive_float,
        metavar='N',
        default=None,
        help='keep features of frozen encoders for all runs, in files of at most so many gigabytes (none)',
    )
    what = running.add_mutually_exclusive_group()
    what.add_argument('--dry-run', action='store_true', default=False, help='only list runs and estimate their cost')
    what.add_argument('--status', action='store_true', default=False, help='only say how far it is')
    what.add_argument(
        '--rewrite',
        type=Path,
        metavar='DIR',
        default=None,
        help='only write the reports in a folder again',
    )
    return parser.parse_args(arguments)


def null_or_text(text: str) -> str | None:
    """Read `null` as YAML does: the default."""
    return None if text == 'null' else text


def positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not a whole number from 1')
    return value


def asked_study(args: argparse.Namespace) -> tuple[str, Study]:
    """Name and study that the arguments mean."""
    given = vars(args)
    arms = {key: given[key] for key in ARM_KEYS if key in given}
    conditions = {entry.name: given[entry.name] for entry in fields(Study) if entry.name in given}
    if 'study' not in given:
        name, study = study_of_flags(arms, conditions)
        return f'{name}-{short_hash({**arms, **conditions})}', study
    if arms:
        raise UserError(f"the arms are those of study '{args.study}' or those of --unets, --encoders, ...; drop one")
    path = find_study(args.study)
    name = f'{path.stem}-{short_hash(conditions)}' if conditions else path.stem
    return name, read_study(path, conditions)


def study_of_flags(arms: dict[str, list[Any]], conditions: dict[str, Any]) -> tuple[str, Study]:
    if not arms:
        raise UserError(f'give a study ({", ".join(list_studies())}, or a file), or arms: --unets ...; see --help')
    said = (', '.join(map(str, filter(None, values))) for values in arms.values())
    title = conditions.get('title') or '; '.join(filter(None, said))
    name = re.sub(r'[^a-z0-9+]+', '-', title.lower()).strip('-') or 'study'
    return name, make_study({**conditions, 'title': title, 'arms': [arms]})


def short_hash(settings: Mapping[str, Any]) -> str:
    return digest_of(settings)[:6]


def print_plan(study: Study, root: Path, processes: int | None) -> None:
    """Print the runs, what each arm costs by a step that is timed now, and how long what is not done will take."""
    from mmgfnuc.studies.costs import arm_costs, step_seconds
    from mmgfnuc.studies.preparation import check_models, check_weights, encoder_name, encoders_of, is_at_hand

    runs = study_runs(study, root)
    check_models(runs)
    check_weights(runs, root)
    states = [run_state(root, run) for run in runs]
    for run, state in zip(runs, states, strict=True):
        print(f'{run.key}  {state:6}  {run.name}')
    for encoder in encoders_of(runs):
        if not is_at_hand(encoder):
            name = encoder_name(encoder)
            print(f"weights '{name}' are not here; they are looked for on the hub when the study starts")
    seconds, steps = {}, {run.arm.name: run.steps for run in runs}
    for arm in study.arms:
        costs, seconds[arm.name] = arm_costs(study, arm), step_seconds(study, arm)
        minutes = seconds[arm.name] * steps[arm.name] / 60
        print(
            f'{arm.name}: {costs.parameters / 1e6:.2f} M parameters, {costs.macs / 1e9:.2f} G multiply-adds, '
            f'{seconds[arm.name]:.2f} s a step, about {minutes:.1f} minutes of training'
        )
    print(f'{len(runs)} runs: {", ".join(f"{count} {state}" for state, count in Counter(states).items())}')
    left = [run for run, state in zip(runs, states, strict=True) if state not in (*ENDED, SCORED)]
    minutes = sum(seconds[run.arm.name] * run.steps for run in left) / len(devices(processes)) / 60
    time = f'{minutes:.0f} minutes' if minutes < 60 else f'{minutes / 60:.1f} hours'
    print(f'about {time} of training are left, without start, loading and scoring')


def main(arguments: Sequence[str]) -> None:
    """Run a study, or say how far it is, as the arguments say."""
    args = parse_args(arguments)
    if args.rewrite:
        from mmgfnuc.studies.report import rewrite_report

        return rewrite_report(args.rewrite)
    command = shlex.join(['mmgfnuc', 'benchmark', *arguments])
    name, study = asked_study(args)
    root = args.out / 'runs'
    if args.dry_run:
        print_plan(study, root, args.processes)
    elif args.status:
        print('\n'.join(status_lines(study_runs(study, root), root)))
    else:
        run_study(study, root, args.out / name, args, command)


def run_study(study: Study, root: Path, folder: Path, args: argparse.Namespace, command: str) -> None:
    """Run what is not done, then report."""
    from mmgfnuc.studies.preparation import check_models, check_weights, draw_missing_data, encoders_of, fetch_encoders

    draw_missing_data(study)
    runs = study_runs(study, root)
    check_models(runs)
    check_weights(runs, root)
    fetch_encoders(encoders_of(run for run in runs if run_state(root, run) not in ENDED))
    try:
        run_all(runs, root, args.processes, args.engine, args.cache_gb)
    except FailedRunsError as error:
        left_out = report_finished(study, runs, root, folder, command)
        raise UserError(f'{error}\n{left_out}; the same command runs them again, and only them') from error
    report(study, runs, root, folder, command)


def report_finished(study: Study, runs: Sequence[Run], root: Path, folder: Path, command: str) -> str:
    """Report the arms whose runs have all ended, if the baseline is one of them; say what is left out."""
    failed = {run.arm.name for run in runs if run_state(root, run) not in ENDED}
    if study.arms[0].name in failed:
        return f'no report without the baseline, {study.arms[0].name}'
    left_out = f'left out, as runs of them failed: {", ".join(sorted(failed))}'
    rest = replace(
        study,
        arms=tuple(arm for arm in study.arms if arm.name not in failed),
        remark=f'{study.remark} Arms {left_out}.'.strip(),
    )
    report(rest, [run for run in runs if run.arm.name not in failed], root, folder, command)
    return f'of the report {left_out}'


def report(study: Study, runs: Sequence[Run], root: Path, folder: Path, command: str) -> None:
    from mmgfnuc.studies.report import write_report

    write_report(study, runs, root, folder, command)
    diverged = sum(run_state(root, run) == DIVERGED for run in runs)
    print(
        f'{len(runs) - diverged} runs done{f", {diverged} diverged" if diverged else ""}; '
        f'report: {folder / "report.html"}'
    )
